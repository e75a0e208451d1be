// The scheduler behind cuda_on_host.h.
#include "cuda_on_host.h"

#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace host {
namespace {

constexpr size_t STACK_BYTES = 256 * 1024;

enum class State { not_started, ready, at_block_barrier, at_warp_barrier, done };

// A coroutine. It begins threads one after the other, until one has to wait; from then on it is that thread's.
struct Fiber {
    ucontext_t start;
    jmp_buf place;  // where it waits: unlike swapcontext, longjmp asks the system for nothing
    bool started = false;
    void* stack = nullptr;
};

// The stacks of a host thread's fibers, which are used again.
struct Stacks {
    std::vector<void*> free;
    void* take() {
        if (free.empty()) {
            void* stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            return stack == MAP_FAILED ? nullptr : stack;
        }
        void* stack = free.back();
        free.pop_back();
        return stack;
    }
    ~Stacks() {
        for (void* stack : free) munmap(stack, STACK_BYTES);
    }
};
thread_local Stacks stacks;

struct Block;
thread_local Block* block = nullptr;

// Whether a block of a cooperative launch has come to nothing, so that those that wait for it must not go on.
std::atomic<bool> gone_wrong;

struct Block {
    const Launch& launch;
    void (*body)(void*);
    void* argument;
    dim3 index;
    unsigned size;
    void* shared = nullptr;  // memory of its own, of the very size: what lies behind it is not the block's
    std::vector<State> state;
    std::vector<std::unique_ptr<Fiber>> fiber;  // of each thread that had to wait
    std::vector<uint64_t> exchange;
    std::vector<unsigned> order;
    unsigned begun = 0;  // how many of them, in that order
    unsigned current = 0;
    Fiber* running = nullptr;
    jmp_buf scheduler;

    Block(const Launch& launch, void (*body)(void*), void* argument, dim3 index)
        : launch(launch), body(body), argument(argument), index(index) {
        size = launch.block.x * launch.block.y * launch.block.z;
        if (posix_memalign(&shared, 128, launch.shared_bytes)) std::abort();
        std::memset(shared, 0xff, launch.shared_bytes);
        state.assign(size, State::not_started);
        fiber.resize(size);
        exchange.assign(size, ~0ull);
        order.resize(size);
        std::iota(order.begin(), order.end(), 0u);
        if (launch.order == 1) std::reverse(order.begin(), order.end());
        if (launch.order > 1) {
            uint64_t random = launch.order;
            for (unsigned k = size; k > 1; --k) {
                random = random * 6364136223846793005ull + 1442695040888963407ull;
                std::swap(order[k - 1], order[(random >> 33) % k]);
            }
        }
    }

    ~Block() { std::free(shared); }

    void become(unsigned thread) {
        current = thread;
        threadIdx = {thread % launch.block.x, thread / launch.block.x % launch.block.y,
                     thread / launch.block.x / launch.block.y};
    }

    static void begin_threads() {
        Block* own = block;
        while (own->begun < own->size) {
            unsigned thread = own->order[own->begun++];
            own->become(thread);
            own->state[thread] = State::ready;
            own->body(own->argument);
            own->state[own->current] = State::done;
        }
        _longjmp(own->scheduler, 1);
    }

    void resume(Fiber* next) {
        running = next;
        if (_setjmp(scheduler)) return;
        if (next->started) _longjmp(next->place, 1);
        next->started = true;
        setcontext(&next->start);
    }

    void begin() {
        auto next = std::make_unique<Fiber>();
        next->stack = stacks.take();
        getcontext(&next->start);
        next->start.uc_stack.ss_sp = next->stack;
        next->start.uc_stack.ss_size = STACK_BYTES;
        makecontext(&next->start, begin_threads, 0);
        Fiber* raw = next.get();
        resume(raw);
        keep_or_free(std::move(next));
    }

    // After a fiber has come back: it is the current thread's if that one waits, else it is at its end.
    void keep_or_free(std::unique_ptr<Fiber> back) {
        if (state[current] == State::done)
            stacks.free.push_back(back->stack);
        else
            fiber[current] = std::move(back);
    }

    void wait(State why) {
        state[current] = why;
        if (!_setjmp(running->place)) _longjmp(scheduler, 1);
    }

    bool release() {
        bool released = false;
        for (unsigned first = 0; first < size; first += 32) {
            unsigned end = first + 32 < size ? first + 32 : size;
            bool all = true;
            for (unsigned t = first; t < end; ++t) all = all && state[t] == State::at_warp_barrier;
            if (all)
                for (unsigned t = first; t < end; ++t) state[t] = State::ready;
            released = released || all;
        }
        bool all = true;
        for (State s : state) all = all && s == State::at_block_barrier;
        if (all)
            for (State& s : state) s = State::ready;
        return released || all;
    }

    const char* run() {
        block = this;
        blockIdx = index;
        blockDim = launch.block;
        gridDim = launch.grid;
        for (;;) {
            while (begun < size) begin();
            bool done = true;
            for (unsigned thread : order) {
                if (state[thread] == State::ready) {
                    become(thread);
                    auto mine = std::move(fiber[thread]);
                    resume(mine.get());
                    keep_or_free(std::move(mine));
                }
                done = done && state[thread] == State::done;
            }
            if (done) return nullptr;
            bool any_ready = false;
            for (State s : state) any_ready = any_ready || s == State::ready;
            if (!any_ready && !release()) {
                gone_wrong = true;
                return "some threads wait at a barrier to which others do not come";
            }
        }
    }
};

}  // namespace

void wait_for_block() { block->wait(State::at_block_barrier); }
void wait_for_warp() { block->wait(State::at_warp_barrier); }
void let_others_go_on() {
    sched_yield();
    block->wait(gone_wrong ? State::done : State::ready);
}
void* shared_memory() { return block->shared; }
void* exchanged(unsigned lane) { return &block->exchange[block->current / 32 * 32 + lane]; }

const char* run(const Launch& launch, void (*body)(void*), void* context) {
    const dim3 grid = launch.grid;
    std::vector<std::thread> threads;
    const unsigned number = grid.x * grid.y * grid.z;
    std::vector<const char*> wrong(number, nullptr);
    gone_wrong = false;
    auto run_block = [&](unsigned k) {
        dim3 index = {k % grid.x, k / grid.x % grid.y, k / grid.x / grid.y};
        wrong[k] = Block(launch, body, context, index).run();
    };
    for (unsigned k = 0; k < number; ++k) {
        if (launch.cooperative)
            threads.emplace_back(run_block, k);
        else
            run_block(launch.order == 1 ? number - 1 - k : k);
    }
    for (auto& thread : threads) thread.join();
    for (const char* what : wrong)
        if (what) return what;
    return nullptr;
}

}  // namespace host
