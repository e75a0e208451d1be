// What is computed along a dimension from all elements up to each place; see `backends/scans.py`. The struct of arguments is
// packed by `compiled/scans.py`. A thread computes a strip of adjacent columns, or a row whose elements are adjacent, so
// that results do not depend on the number of threads.

#include <stdint.h>

#include "functions.h"
#include "runtime.h"

typedef struct {
    Index outer, length, inner;  // of the arrays; scans go along `length`
    Index option;                // before, reverse or smallest
    const REAL *x, *y;
    void *out;
} Scan;

enum { WIDTH = 32 };  // columns of a strip

static Index strips_in_row(const Scan *s) { return (s->inner + WIDTH - 1) / WIDTH; }

// The first element of a strip, and the number of its columns. The compiler knows that a single column is one.
#define EACH_STRIP(body)                                                                                               \
    const Scan *s = arguments;                                                                                         \
    const Index length = s->length, step = s->inner, in_row = strips_in_row(s), option = s->option;                    \
    for (Index strip = first; strip < last; strip++) {                                                                 \
        const Index begin = strip % in_row * WIDTH, start = strip / in_row * length * step + begin;                    \
        const Index columns = step - begin < WIDTH ? step - begin : WIDTH;                                             \
        if (step == 1)                                                                                                 \
            body(s, start, length, 1, 1, option);                                                                      \
        else                                                                                                           \
            body(s, start, length, step, columns, option);                                                             \
    }

INLINE void add(const Scan *s, Index at, Index length, Index step, Index columns, Index reverse) {
    const REAL *restrict x = s->x;
    REAL *restrict out = s->out;
    const Index move = reverse ? -step : step;
    double sums[WIDTH];
    if (reverse) at += (length - 1) * step;
    for (Index j = 0; j < columns; j++) sums[j] = 0;
    for (Index k = 0; k < length; k++, at += move)
        for (Index j = 0; j < columns; j++) out[at + j] = (REAL)(sums[j] += x[at + j]);
}

INLINE void multiply(const Scan *s, Index at, Index length, Index step, Index columns, Index before) {
    const REAL *restrict x = s->x;
    REAL *restrict out = s->out;
    double products[WIDTH];
    for (Index j = 0; j < columns; j++) products[j] = 1;
    for (Index k = 0; k < length; k++, at += step)
        for (Index j = 0; j < columns; j++) {
            const double product = products[j] * x[at + j];
            out[at + j] = (REAL)(before ? products[j] : product);
            products[j] = product;
        }
}

INLINE void recur(const Scan *s, Index at, Index length, Index step, Index columns, Index reverse) {
    const REAL *restrict factors = s->x, *restrict terms = s->y;
    REAL *restrict out = s->out;
    const Index move = reverse ? -step : step, of_factors = reverse ? step : 0;
    REAL sums[WIDTH];
    if (reverse) at += (length - 1) * step;
    for (Index j = 0; j < columns; j++) out[at + j] = sums[j] = terms[at + j];
    for (Index k = 1; k < length; k++) {
        at += move;
        for (Index j = 0; j < columns; j++) {
            out[at + j] = sums[j] = terms[at + j] + factors[at + of_factors + j] * sums[j];
        }
    }
}

// A NaN is larger and smaller than all numbers.
INLINE void search(const Scan *s, Index at, Index length, Index step, Index columns, Index smallest) {
    const REAL *restrict x = s->x;
    int64_t *restrict out = s->out;
    REAL extremes[WIDTH];
    int64_t places[WIDTH];
    for (Index j = 0; j < columns; j++) extremes[j] = smallest ? INFINITY : -INFINITY, places[j] = 0;
    for (Index k = 0; k < length; k++, at += step)
        for (Index j = 0; j < columns; j++) {
            const REAL value = x[at + j], extreme = extremes[j];
            const int found = (smallest ? value <= extreme : value >= extreme) | (value != value);
            extremes[j] = found ? value : extreme;
            out[at + j] = places[j] = found ? k : places[j];
        }
}

static void add_strips(void *arguments, Index first, Index last) { EACH_STRIP(add) }
static void multiply_strips(void *arguments, Index first, Index last) { EACH_STRIP(multiply) }
static void recur_in_strips(void *arguments, Index first, Index last) { EACH_STRIP(recur) }
static void search_strips(void *arguments, Index first, Index last) { EACH_STRIP(search) }

static Index strips(const Scan *s) { return s->length ? s->outer * strips_in_row(s) : 0; }

void running_sum(Index threads, Scan *s) { share_briefly(threads, strips(s), add_strips, s); }
void running_product(Index threads, Scan *s) { share_briefly(threads, strips(s), multiply_strips, s); }
void linear_recurrence(Index threads, Scan *s) { share_briefly(threads, strips(s), recur_in_strips, s); }
void running_extreme(Index threads, Scan *s) { share_briefly(threads, strips(s), search_strips, s); }
