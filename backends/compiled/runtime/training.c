// Cross entropy, softmax, optimizers, and adding rows. Results are bitwise equal for any number of threads, since one
// thread computes a row of logits or an element of a parameter. The structs of arguments are packed by
// `compiled/training.py`.

#include <stdint.h>
#include <string.h>

#include "functions.h"
#include "lanes.h"
#include "runtime.h"

typedef __typeof__((Lanes){0} > (Lanes){0}) Masks;  // the integers of the comparisons of vectors

enum { BLOCK = 1024 };

static Index smaller(Index a, Index b) { return a < b ? a : b; }

// -- cross entropy ----------------------------------------------------------------------------------------------------

typedef struct {
    Index rows, classes;
    const REAL *logits;
    const int64_t *ids;
    int64_t ignored;
    REAL *largest, *sums;  // of each row: the maximum, and the sum of e^(logit - maximum)
    REAL *losses;
    const REAL *g;
    REAL *g_logits;
} CrossEntropy;

// For both, NaN if one of them is.
static inline Lanes larger_lanes(Lanes a, Lanes b) {
    const Masks first = (a > b) | (a != a);
    return (Lanes)((first & (Masks)a) | (~first & (Masks)b));
}

// The largest element, or NaN if there is one. Compilers do not vectorize the loop over the elements by themselves.
static REAL maximum_of_row(const REAL *x, Index length) {
    REAL found = -INFINITY;
    if (length < LANES) {
        for (Index k = 0; k < length; k++) found = OF_REAL(maximum)(x[k], found);
        return found;
    }
    Lanes largest = loaded(x + length - LANES);
    for (Index k = 0; k + LANES <= length; k += LANES) largest = larger_lanes(loaded(x + k), largest);
    for (Index k = 0; k < LANES; k++) found = OF_REAL(maximum)(largest[k], found);
    return found;
}

// The sum of at most BLOCK elements, by partial sums.
static REAL sum_of_block(const REAL *x, Index length) {
    union { Lanes all; REAL at[LANES]; } sums = {{0}};
    Index k = 0;
    for (; k + LANES <= length; k += LANES) sums.all += loaded(x + k);
    for (Index lane = 0; k < length; k++, lane++) sums.at[lane] += x[k];
    for (Index half = LANES / 2; half > 0; half /= 2) {
        for (Index lane = 0; lane < half; lane++) sums.at[lane] += sums.at[lane + half];
    }
    return sums.at[0];
}

// The sum of e^(x - largest).
static REAL sum_of_powers(const REAL *x, Index length, REAL largest) {
    REAL total = 0;
    for (Index first = 0; first < length; first += BLOCK) {
        REAL powers[BLOCK];
        const Index size = smaller(BLOCK, length - first);
        for (Index k = 0; k < size; k++) powers[k] = OF_REAL(exp_nonpositive)(x[first + k] - largest);
        total += sum_of_block(powers, size);
    }
    return total;
}

static void compute_losses(void *arguments, Index first, Index last) {
    const CrossEntropy *c = arguments;
    for (Index row = first; row < last; row++) {
        const REAL *logits = c->logits + row * c->classes;
        const int64_t id = c->ids[row];
        const REAL largest = maximum_of_row(logits, c->classes), sum = sum_of_powers(logits, c->classes, largest);
        c->largest[row] = largest;
        c->sums[row] = sum;
        c->losses[row] = id == c->ignored              ? 0
                         : id < 0 || id >= c->classes ? NAN
                                                       : OF_REAL(log)(sum) - (logits[id] - largest);
    }
}

static void compute_gradients(void *arguments, Index first, Index last) {
    const CrossEntropy *c = arguments;
    for (Index row = first; row < last; row++) {
        const REAL *restrict logits = c->logits + row * c->classes;
        REAL *restrict g_logits = c->g_logits + row * c->classes;
        const int64_t id = c->ids[row];
        if (id == c->ignored || id < 0 || id >= c->classes) {
            memset(g_logits, 0, c->classes * sizeof(REAL));  // for any logits
            continue;
        }
        const REAL largest = c->largest[row], factor = c->g[row] / c->sums[row];
        for (Index k = 0; k < c->classes; k++) g_logits[k] = OF_REAL(exp_nonpositive)(logits[k] - largest) * factor;
        g_logits[id] -= c->g[row];
    }
}

void cross_entropy_forward(Index threads, CrossEntropy *c) { share(threads, c->rows, compute_losses, c); }
void cross_entropy_backward(Index threads, CrossEntropy *c) { share(threads, c->rows, compute_gradients, c); }

// -- softmax ----------------------------------------------------------------------------------------------------------

typedef struct {
    Index rows, length, logarithm;
    const REAL *x;
    REAL *out;
} Softmax;

static void compute_probabilities(void *arguments, Index first, Index last) {
    const Softmax *s = arguments;
    const Index length = s->length;
    for (Index row = first; row < last; row++) {
        const REAL *restrict x = s->x + row * length;
        REAL *restrict out = s->out + row * length;
        const REAL largest = maximum_of_row(x, length);
        REAL total = 0;
        for (Index begin = 0; begin < length; begin += BLOCK) {
            const Index size = smaller(BLOCK, length - begin);
            for (Index k = begin; k < begin + size; k++) out[k] = OF_REAL(exp_nonpositive)(x[k] - largest);
            total += sum_of_block(out + begin, size);
        }
        const REAL scale = 1 / total;
        for (Index k = 0; k < length; k++) out[k] *= scale;
    }
}

static void compute_logarithms(void *arguments, Index first, Index last) {
    const Softmax *s = arguments;
    for (Index row = first; row < last; row++) {
        const REAL *restrict x = s->x + row * s->length;
        REAL *restrict out = s->out + row * s->length;
        const REAL largest = maximum_of_row(x, s->length);
        const REAL total = OF_REAL(log)(sum_of_powers(x, s->length, largest));
        for (Index k = 0; k < s->length; k++) out[k] = (x[k] - largest) - total;
    }
}

// The softmax of each row of x (rows, length), or its logarithm.
void softmax(Index threads, Softmax *s) {
    share(threads, s->rows, s->logarithm ? compute_logarithms : compute_probabilities, s);
}

// -- adding rows ------------------------------------------------------------------------------------------------------

typedef struct {
    Index number, columns;
    REAL *target;
    const int64_t *rows;
    const REAL *values;
} AddRows;

static void add_columns(void *arguments, Index first, Index last) {
    const AddRows *a = arguments;
    for (Index k = 0; k < a->number; k++) {
        REAL *restrict row = a->target + a->rows[k] * a->columns;
        const REAL *restrict values = a->values + k * a->columns;
        for (Index column = first; column < last; column++) row[column] += values[column];
    }
}

// target[rows] += values for values (number, columns), in the order of `rows`.
void add_rows(Index threads, AddRows *a) { share(threads, a->columns, add_columns, a); }

typedef struct {
    Index number, most;
    const int64_t *rows;
    uint16_t *counts;  // of each row, zeros at first
    int64_t *few;
} FewEach;

// Whether no row occurs more than `most` times, which is below 2^16.
void few_each(Index threads, FewEach *f) {
    (void)threads;
    for (Index k = 0; k < f->number; k++)
        if (++f->counts[f->rows[k]] > f->most) return;
    *f->few = 1;
}

// -- Adam -------------------------------------------------------------------------------------------------------------

typedef struct {
    Index size;
    REAL *p;
    const REAL *g;
    REAL *m, *v;
    REAL *largest;  // so far, of v (AMSGrad), or NULL
    double shrink, decay, beta1, beta2, eps, rate;
} Adam;

static inline void update_elements(const Adam *a, Index first, Index last, int amsgrad) {
    REAL *restrict p = a->p, *restrict m = a->m, *restrict v = a->v, *restrict largest = a->largest;
    const REAL *restrict g = a->g;
    const REAL keep = a->shrink, decay = a->decay, rest1 = 1 - a->beta1, keep2 = a->beta2, rest2 = 1 - a->beta2;
    const REAL eps = a->eps, rate = a->rate;
    for (Index k = first; k < last; k++) {
        const REAL p_k = p[k] * keep, g_k = decay ? g[k] + p_k * decay : g[k];
        const REAL m_k = m[k] + (g_k - m[k]) * rest1;
        REAL v_k = v[k] * keep2 + g_k * g_k * rest2;
        m[k] = m_k;
        v[k] = v_k;
        if (amsgrad) largest[k] = v_k = OF_REAL(maximum)(largest[k], v_k);
        p[k] = p_k - m_k / (OF_REAL(sqrt)(v_k) + eps) * rate;
    }
}

static void update_parameter(void *arguments, Index first, Index last) {
    const Adam *a = arguments;
    if (a->largest) {
        update_elements(a, first, last, 1);
    } else {
        update_elements(a, first, last, 0);
    }
}

void adam_update(Index threads, Adam *a) { share(threads, a->size, update_parameter, a); }

// -- SGD --------------------------------------------------------------------------------------------------------------

typedef struct {
    Index size;
    REAL *p;
    const REAL *g;
    REAL *sums;  // running sums, or NULL without momentum
    double decay, momentum, share, rate, nesterov;
} Sgd;

static void descend(void *arguments, Index first, Index last) {
    const Sgd *a = arguments;
    REAL *restrict p = a->p, *restrict sums = a->sums;
    const REAL *restrict g = a->g;
    const REAL decay = a->decay, momentum = a->momentum, share = a->share, rate = a->rate;
    if (!sums) {
        for (Index k = first; k < last; k++) p[k] -= (decay ? g[k] + p[k] * decay : g[k]) * rate;
        return;
    }
    const int nesterov = a->nesterov != 0;
    for (Index k = first; k < last; k++) {
        const REAL g_k = decay ? g[k] + p[k] * decay : g[k], sum = sums[k] * momentum + g_k * share;
        sums[k] = sum;
        p[k] -= (nesterov ? sum * momentum + g_k : sum) * rate;
    }
}

void sgd_update(Index threads, Sgd *a) { share(threads, a->size, descend, a); }
