/* The threads that share the rows of a job: handing it out and ending it takes a microsecond.

   Helper threads are created when they are first needed, and end with the process. They poll for a job for about a
   millisecond, and only then sleep. A part that no helper has begun is computed by the thread that handed out the job,
   which never waits for a sleeping helper. While one thread uses the helpers, others compute their jobs without them.
   A forked process has no threads of its parent, and creates its own. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for threads on chosen cores */
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include "interface.h"

Share share, share_briefly;

enum {
    MOST_THREADS = 64,    /* a bit each */
    PATIENCE = 30 * 1000, /* polls, 20 to 40 ns each, until a helper sleeps */
    LOOKS_A_YIELD = 2000,
    STACK = 4 * 1024 * 1024,
    MOMENT = 1000 * 1000, /* nanoseconds */
};

/* Words that threads poll have cache lines of their own. */
#define OWN_LINE __attribute__((aligned(128)))

static struct {
    OWN_LINE unsigned long long open; /* the parts that no thread has begun, one bit each */
    OWN_LINE Index ended;             /* the number of parts that have ended */
    OWN_LINE Index parts;             /* thread k takes part in jobs of more than k parts */
    Index rows;
    Part *part;
    void *arguments;
} job;

static OWN_LINE int busy;  /* whether a thread uses the helpers */
static long long last_job; /* when it was handed out, in nanoseconds */
static Index helpers;      /* the number of helpers; they are threads 1, 2, ... */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_t threads_of[MOST_THREADS];
static pthread_cond_t wakes[MOST_THREADS];
static int asleep[MOST_THREADS];

static void relax(void) {
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("yield");
#endif
}

static int has_work(Index k) {
    return k < __atomic_load_n(&job.parts, __ATOMIC_SEQ_CST) && __atomic_load_n(&job.open, __ATOMIC_SEQ_CST);
}

/* Computes parts of the job that no thread has begun, part k first, until there are none. */
static void work(Index k) {
    unsigned long long open;
    while ((open = __atomic_load_n(&job.open, __ATOMIC_ACQUIRE))) {
        Index part = open >> k & 1 ? k : __builtin_ctzll(open);
        /* The parts may belong to a later job by now: then this begins a part of that job. */
        if (__atomic_compare_exchange_n(&job.open, &open, open ^ 1ULL << part, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            Index rows = job.rows, parts = job.parts;
            job.part(job.arguments, rows * part / parts, rows * (part + 1) / parts);
            __atomic_fetch_add(&job.ended, 1, __ATOMIC_ACQ_REL);
        }
    }
}

static void *help(void *number) {
    Index k = (Index)number;
    for (;;) {
        for (Index looks = 0; looks < PATIENCE; looks++) {
            if (has_work(k)) {
                work(k);
                looks = 0;
            }
            relax();
        }
        pthread_mutex_lock(&lock);
        __atomic_store_n(&asleep[k], 1, __ATOMIC_SEQ_CST);
        if (!has_work(k)) pthread_cond_wait(&wakes[k], &lock);
        __atomic_store_n(&asleep[k], 0, __ATOMIC_SEQ_CST);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

#ifndef _WIN32
static void after_fork(void) {
    job.open = 0;
    busy = 0;
    helpers = 0;
    pthread_mutex_init(&lock, NULL);
}
#endif

/* Creates helpers until there are `number`, or fewer if the system refuses. */
static void create_helpers(Index number) {
#ifndef _WIN32
    static int prepared;
    if (!prepared) prepared = !pthread_atfork(NULL, NULL, after_fork);
    sigset_t all, before; /* signals are for the other threads, which may wait for them */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    while (helpers < number) {
        Index k = helpers + 1;
        asleep[k] = 0;
        pthread_cond_init(&wakes[k], NULL);
        if (pthread_create(&threads_of[k], &attributes, help, (void *)k)) break;
        helpers = k;
    }
    pthread_attr_destroy(&attributes);
#ifndef _WIN32
    pthread_sigmask(SIG_SETMASK, &before, NULL);
#endif
}

/* Moves the threads [1, threads) to cores that this thread does not use, if there are enough. Linux may wake a thread on
   the core of the thread that woke it, and leave both there for tens of milliseconds though another core is idle. */
static void spread(Index threads) {
#ifdef __linux__
    cpu_set_t others;
    int own = sched_getcpu();
    if (own < 0 || pthread_getaffinity_np(pthread_self(), sizeof others, &others)) return;
    CPU_CLR(own, &others);
    if (CPU_COUNT(&others) < threads - 1) return;
    for (Index k = 1; k < threads; k++) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        Index nth = 0;
        for (size_t core = 0; core < CPU_SETSIZE; core++) {
            if (CPU_ISSET(core, &others) && nth++ % (threads - 1) == k - 1) CPU_SET(core, &cores);
        }
        pthread_setaffinity_np(threads_of[k], sizeof cores, &cores);
    }
#else
    (void)threads;
#endif
}

static long long nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void wake(Index threads) {
    int spreading = 1;
    for (Index k = 1; k < threads; k++) {
        if (!__atomic_load_n(&asleep[k], __ATOMIC_SEQ_CST)) continue;
        if (spreading) spread(threads);
        spreading = 0;
        pthread_mutex_lock(&lock);
        __atomic_store_n(&asleep[k], 0, __ATOMIC_SEQ_CST); /* so that it is woken once */
        pthread_cond_signal(&wakes[k]);
        pthread_mutex_unlock(&lock);
    }
}

static void hand_out(Index threads, Index rows, Part *part, void *arguments, int brief) {
    if (threads > rows) threads = rows;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (threads <= 1 || __atomic_exchange_n(&busy, 1, __ATOMIC_ACQUIRE)) {
        if (rows > 0) part(arguments, 0, rows);
        return;
    }
    create_helpers(threads - 1);
    if (threads > helpers + 1) threads = helpers + 1;
    job.rows = rows;
    job.part = part;
    job.arguments = arguments;
    job.ended = 0;
    __atomic_store_n(&job.parts, threads, __ATOMIC_SEQ_CST);
    __atomic_store_n(&job.open, ~0ULL >> (64 - threads), __ATOMIC_SEQ_CST);
    long long now = nanoseconds();
    if (!brief || now - last_job < MOMENT) wake(threads);
    last_job = now;
    work(0);
    for (Index looks = 1; __atomic_load_n(&job.ended, __ATOMIC_ACQUIRE) < threads; looks++) {
        relax();
        if (looks % LOOKS_A_YIELD == 0) sched_yield(); /* to a helper that has no core */
    }
    __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
}

void share(Index threads, Index rows, Part *part, void *arguments) { hand_out(threads, rows, part, arguments, 0); }

void share_briefly(Index threads, Index rows, Part *part, void *arguments) {
    hand_out(threads, rows, part, arguments, 1);
}
