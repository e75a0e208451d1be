// The loss of connectionist temporal classification; see `backends/ctc.py`. A thread computes a row of the batch, so that
// results do not depend on the number of threads. The struct of arguments is packed by `compiled/ctc.py`.

#include <stdint.h>
#include <string.h>

#include "functions.h"
#include "runtime.h"

typedef struct {
    Index steps, rows, classes, states, padded, blank;  // padded: a multiple of 16, so that loops are vectors only
    const REAL *log_probs;                 // (steps, rows, classes)
    const int64_t *labels, *lengths, *ends;  // (rows, states), (rows,), (rows,)
    REAL *losses;                          // (rows,)
    REAL *alphas;                          // (rows, steps, padded + 2), after two states that are impossible
    REAL *room;                            // (rows, 4, padded + 2)
    const REAL *g;                         // (rows,)
    REAL *g_log_probs;
} CTC;

#define LOWEST_NUMBER (sizeof(REAL) == 4 ? (REAL)-3.4028234663852886e38 : (REAL)-1.7976931348623157e308)

static const REAL *probabilities(const CTC *c, Index step, Index row) {
    return c->log_probs + (step * c->rows + row) * c->classes;
}

// The logarithm of the sum of three exponentials, which may all be 0. NaN remains NaN: its exponential is.
INLINE REAL sum_of_three(REAL x, REAL y, REAL z) {
    const REAL larger = x > y ? x : y, largest = larger > z ? larger : z;
    const REAL base = largest > LOWEST_NUMBER ? largest : LOWEST_NUMBER;
    const REAL sum = OF_REAL(exp_nonpositive)(x - base) + OF_REAL(exp_nonpositive)(y - base) +
                     OF_REAL(exp_nonpositive)(z - base);
    return OF_REAL(log)(sum) + base;
}

// Adds to each of n states the sum of those that lead to it: itself, its neighbour, and the one after that. If it were
// inlined, compilers would no longer know that the arrays do not overlap, and would not vectorize the loop.
__attribute__((noinline)) static void add_sums(
    REAL *restrict out, const REAL *restrict x, const REAL *restrict neighbours, const REAL *restrict further,
    const REAL *restrict penalties, Index n
) {
    for (Index s = 0; s < n; s++) out[s] += sum_of_three(x[s], neighbours[s], further[s] + penalties[s]);
}

// 0 for each state that a path may enter from two states before, else -inf.
static void find_penalties(const CTC *c, const int64_t *labels, REAL *penalties) {
    for (Index s = 0; s < c->padded + 2; s++) {
        penalties[s] = s >= 2 && s < c->states && labels[s] != c->blank && labels[s] != labels[s - 2] ? 0 : -INFINITY;
    }
}

static void compute_losses(void *arguments, Index first, Index last) {
    const CTC *c = arguments;
    const Index padded = c->padded, width = padded + 2;
    for (Index row = first; row < last; row++) {
        const int64_t *labels = c->labels + row * c->states;
        const Index length = c->lengths[row], end = c->ends[row];
        REAL *alphas = c->alphas + row * c->steps * width, *penalties = c->room + row * 4 * width;
        find_penalties(c, labels, penalties);
        for (Index t = 0; t < length; t++) {
            const REAL *log_probs = probabilities(c, t, row);
            REAL *now = alphas + t * width;
            now[0] = now[1] = -INFINITY;
            for (Index s = 0; s < end; s++) now[s + 2] = log_probs[labels[s]];
            for (Index s = end; s < padded; s++) now[s + 2] = -INFINITY;
            if (t == 0) {
                for (Index s = 2; s < end; s++) now[s + 2] = -INFINITY;
                continue;
            }
            const REAL *before = now - width;
            add_sums(now + 2, before + 2, before + 1, before, penalties, padded);
        }
        if (length) {
            const REAL *final = alphas + (length - 1) * width + end;
            c->losses[row] = -sum_of_three(final[1], final[0], -INFINITY);
        } else {
            c->losses[row] = end == 1 ? 0 : INFINITY;
        }
    }
}

static void compute_gradients(void *arguments, Index first, Index last) {
    const CTC *c = arguments;
    const Index padded = c->padded, width = padded + 2;
    for (Index row = first; row < last; row++) {
        const int64_t *labels = c->labels + row * c->states;
        const Index length = c->lengths[row], end = c->ends[row];
        const REAL loss = c->losses[row], g = c->g[row];
        for (Index t = 0; t < c->steps; t++) {
            memset(c->g_log_probs + (t * c->rows + row) * c->classes, 0, c->classes * sizeof(REAL));
        }
        if (loss == INFINITY) continue;
        REAL *penalties = c->room + row * 4 * width, *betas = penalties + width;
        REAL *after = betas + width, *restrict terms = after + width;
        find_penalties(c, labels, penalties);
        for (Index s = 0; s < width; s++) after[s] = -INFINITY;
        for (Index t = length - 1; t >= 0; t--) {
            const REAL *restrict alphas = c->alphas + (row * c->steps + t) * width + 2;
            REAL *g_log_probs = c->g_log_probs + (t * c->rows + row) * c->classes;
            if (t == length - 1) {
                for (Index s = 0; s < padded; s++) betas[s] = s >= end - 2 && s < end ? 0 : -INFINITY;
            } else {
                const REAL *log_probs = probabilities(c, t + 1, row);
                for (Index s = 0; s < end; s++) after[s] = betas[s] + log_probs[labels[s]];
                for (Index s = 0; s < padded; s++) betas[s] = 0;
                add_sums(betas, after, after + 1, after + 2, penalties + 2, padded);
            }
            for (Index s = 0; s < padded; s++) terms[s] = OF_REAL(exp)(alphas[s] + betas[s] + loss) * -g;
            for (Index s = 0; s < end; s++) g_log_probs[labels[s]] += terms[s];
        }
    }
}

void ctc_forward(Index threads, CTC *c) { share(threads, c->rows, compute_losses, c); }
void ctc_backward(Index threads, CTC *c) { share(threads, c->rows, compute_gradients, c); }
