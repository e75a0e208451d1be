/* What the generated code of a step computes of a whole row, for REAL; see emit/c_rows.py.

   The functions `..._along` take a row as an array (outer, n, inner), of which they reduce the dimension n. Sums are
   computed in blocks, so that the rounding error grows slowly; their order does not depend on the address. */

#ifndef ROWS_H
#define ROWS_H

#include "functions.h"
#include "runtime.h"

enum { TERMS_A_BLOCK = 64, LANES = 32 };

/* Compiled once, not wherever it is called; not at all, if it is not called. */
#define ROWS static __attribute__((noinline, unused))

static const REAL one __attribute__((unused)) = 1;

/* `total` = what `join` makes of `start` and `term` for i = 0 ... n - 1. Neighbours are joined in different lanes, which a
   compiler keeps in vectors; few enough in a lane, and few enough blocks, that the error of a sum grows slowly. */
#define JOIN_OVER(total, n, start, join, term)                                                                         \
    do {                                                                                                               \
        total = start;                                                                                                 \
        if ((n) < LANES) {                                                                                             \
            for (Index i = 0; i < (n); i++) total = join(total, (term));                                               \
            break;                                                                                                     \
        }                                                                                                              \
        for (Index block = 0; block < (n); block += 8 * LANES) {                                                       \
            const Index end = block + 8 * LANES < (n) ? block + 8 * LANES : (n);                                       \
            REAL lanes[LANES];                                                                                         \
            for (Index lane = 0; lane < LANES; lane++) lanes[lane] = start;                                            \
            Index lanes_from = block;                                                                                  \
            for (; lanes_from + LANES <= end; lanes_from += LANES)                                                     \
                for (Index lane = 0; lane < LANES; lane++) {                                                           \
                    const Index i = lanes_from + lane;                                                                 \
                    lanes[lane] = join(lanes[lane], (term));                                                           \
                }                                                                                                      \
            for (Index i = lanes_from; i < end; i++) lanes[i - lanes_from] = join(lanes[i - lanes_from], (term));      \
            for (Index half = LANES / 2; half; half /= 2)                                                              \
                for (Index lane = 0; lane < half; lane++) lanes[lane] = join(lanes[lane], lanes[lane + half]);         \
            total = join(total, lanes[0]);                                                                             \
        }                                                                                                              \
    } while (0)

#define SUM_OF(total, n, term) JOIN_OVER(total, n, 0, ADDED, term)
#define ADDED(x, y) ((x) + (y))
#define MULTIPLIED(x, y) ((x) * (y))

INLINE REAL sum_of(const REAL *x, Index n, Index step) {
    REAL total;
    SUM_OF(total, n, x[i * step]);
    return total;
}

INLINE REAL max_of(const REAL *x, Index n, Index step) {
    REAL found;
    JOIN_OVER(found, n, -INFINITY, OF_REAL(maximum), x[i * step]);
    return found;
}

INLINE REAL min_of(const REAL *x, Index n, Index step) {
    REAL found;
    JOIN_OVER(found, n, INFINITY, OF_REAL(minimum), x[i * step]);
    return found;
}

INLINE REAL prod_of(const REAL *x, Index n, Index step) {
    REAL found;
    JOIN_OVER(found, n, 1, MULTIPLIED, x[i * step]);
    return found;
}

/* 1 instead of 0, infinity or NaN. */
INLINE REAL magnitude_of(const REAL *x, Index n, Index step) {
    REAL found;
    JOIN_OVER(found, n, 0, OF_REAL(maximum), OF_REAL(abs)(x[i * step]));
    return found > 0 && found < INFINITY ? found : 1;
}

INLINE REAL logsumexp_of(const REAL *x, Index n, Index step) {
    const REAL found = max_of(x, n, step), largest = OF_REAL(abs)(found) < INFINITY ? found : 0;
    REAL powers;
    SUM_OF(powers, n, OF_REAL(exp)(x[i * step] - largest));
    return powers == 0 ? -INFINITY : OF_REAL(log)(powers) + largest;
}

/* 1 / √(variance + eps). If squares overflow, the numbers are scaled down first; eps is negligible then. */
INLINE REAL inverse_deviation_about(REAL mean, const REAL *x, Index n, Index step, REAL eps) {
    REAL squares, largest = 0;
    SUM_OF(squares, n, (x[i * step] - mean) * (x[i * step] - mean));
    const REAL scale = 1 / OF_REAL(sqrt)(squares / n + eps);
    if (scale != 0) return scale;
    for (Index i = 0; i < n; i++) largest = OF_REAL(maximum)(largest, OF_REAL(abs)(x[i * step] - mean));
    SUM_OF(squares, n, ((x[i * step] - mean) / largest) * ((x[i * step] - mean) / largest));
    return 1 / OF_REAL(sqrt)(squares / n) / largest;
}

/* A function that reduces a row's n elements to one. */
#define REDUCTION(name)                                                                                                \
    ROWS void name##_along(REAL *out, const REAL *x, Index outer, Index n, Index inner) {                              \
        for (Index i = 0; i < outer; i++)                                                                              \
            for (Index j = 0; j < inner; j++) {                                                                        \
                const REAL *const first = x + i * n * inner + j;                                                       \
                out[i * inner + j] = inner == 1 ? name##_of(first, n, 1) : name##_of(first, n, inner);                 \
            }                                                                                                          \
    }

REDUCTION(max)
REDUCTION(min)
REDUCTION(prod)
REDUCTION(magnitude)
REDUCTION(logsumexp)

enum { COLUMNS = 64 };

ROWS void sum_along(REAL *out, const REAL *x, Index outer, Index n, Index inner) {
    for (Index i = 0; i < outer; i++, x += n * inner, out += inner) {
        if (inner == 1) {
            out[0] = sum_of(x, n, 1);
            continue;
        }
        for (Index begin = 0; begin < inner; begin += COLUMNS) {
            const Index width = inner - begin < COLUMNS ? inner - begin : COLUMNS;
            for (Index j = 0; j < width; j++) out[begin + j] = 0;
            for (Index block = 0; block < n; block += TERMS_A_BLOCK) {
                const Index end = block + TERMS_A_BLOCK < n ? block + TERMS_A_BLOCK : n;
                REAL sums[COLUMNS];
                for (Index j = 0; j < width; j++) sums[j] = 0;
                for (Index k = block; k < end; k++)
                    for (Index j = 0; j < width; j++) sums[j] += x[k * inner + begin + j];
                for (Index j = 0; j < width; j++) out[begin + j] += sums[j];
            }
        }
    }
}

INLINE REAL inverse_deviation_of(const REAL *x, Index n, Index step, REAL eps) {
    return inverse_deviation_about(sum_of(x, n, step) / n, x, n, step, eps);
}

ROWS void inverse_deviation_along(REAL *out, const REAL *x, Index outer, Index n, Index inner, REAL eps) {
    for (Index i = 0; i < outer; i++)
        for (Index j = 0; j < inner; j++) {
            const REAL *const first = x + i * n * inner + j;
            out[i * inner + j] =
                inner == 1 ? inverse_deviation_of(first, n, 1, eps) : inverse_deviation_of(first, n, inner, eps);
        }
}

INLINE void softmax_of(REAL *out, const REAL *x, Index n, Index step) {
    const REAL largest = max_of(x, n, step);
    for (Index i = 0; i < n; i++) out[i * step] = OF_REAL(exp)(x[i * step] - largest);
    const REAL total = sum_of(out, n, step);
    for (Index i = 0; i < n; i++) out[i * step] /= total;
}

INLINE void log_softmax_of(REAL *out, const REAL *x, Index n, Index step) {
    const REAL largest = max_of(x, n, step);
    REAL powers;
    SUM_OF(powers, n, OF_REAL(exp)(x[i * step] - largest));
    const REAL log = OF_REAL(log)(powers);
    for (Index i = 0; i < n; i++) out[i * step] = x[i * step] - largest - log;
}

/* Errors would accumulate, so sums are of doubles. */
INLINE void cumsum_of(REAL *out, const REAL *x, Index n, Index step) {
    double total = 0;
    for (Index i = 0; i < n; i++) out[i * step] = (REAL)(total += x[i * step]);
}

INLINE void cumsum_from_end_of(REAL *out, const REAL *x, Index n, Index step) {
    double total = 0;
    for (Index i = n - 1; i >= 0; i--) out[i * step] = (REAL)(total += x[i * step]);
}

INLINE void cumprod_before_of(REAL *out, const REAL *x, Index n, Index step) {
    double product = 1;
    for (Index i = 0; i < n; i++) {
        out[i * step] = (REAL)product;
        product *= x[i * step];
    }
}

/* The inverse deviation is returned. */
INLINE REAL normalized_of(REAL *out, const REAL *x, Index n, Index step, REAL eps) {
    const REAL mean = sum_of(x, n, step) / n, scale = inverse_deviation_about(mean, x, n, step, eps);
    for (Index i = 0; i < n; i++) out[i * step] = (x[i * step] - mean) * scale;
    return scale;
}

/* A function of a row's n elements that has as many results. */
#define ELEMENTS(name)                                                                                                 \
    ROWS void name##_along(REAL *out, const REAL *x, Index outer, Index n, Index inner) {                              \
        for (Index i = 0; i < outer; i++)                                                                              \
            for (Index j = 0; j < inner; j++) {                                                                        \
                const Index first = i * n * inner + j;                                                                 \
                if (inner == 1)                                                                                        \
                    name##_of(out + first, x + first, n, 1);                                                           \
                else                                                                                                   \
                    name##_of(out + first, x + first, n, inner);                                                       \
            }                                                                                                          \
    }

ELEMENTS(softmax)
ELEMENTS(log_softmax)
ELEMENTS(cumsum)
ELEMENTS(cumsum_from_end)
ELEMENTS(cumprod_before)

/* `scales` are the inverse deviations, or NULL. */
ROWS void normalized_along(REAL *out, REAL *scales, const REAL *x, Index outer, Index n, Index inner, REAL eps) {
    for (Index i = 0; i < outer; i++)
        for (Index j = 0; j < inner; j++) {
            const Index first = i * n * inner + j;
            const REAL scale = inner == 1 ? normalized_of(out + first, x + first, n, 1, eps)
                                          : normalized_of(out + first, x + first, n, inner, eps);
            if (scales) scales[i * inner + j] = scale;
        }
}

/* -- products of small matrices ------------------------------------------------------------------------------------ */

/* out (width,) += x (K,) · y (K, width). */
INLINE void add_columns(REAL *out, const REAL *x, Index x_k, const REAL *y, Index y_k, Index K, Index width) {
    for (Index block = 0; block < K; block += TERMS_A_BLOCK) {
        const Index end = block + TERMS_A_BLOCK < K ? block + TERMS_A_BLOCK : K;
        REAL sums[COLUMNS];
        for (Index j = 0; j < width; j++) sums[j] = 0;
        for (Index k = block; k < end; k++)
            for (Index j = 0; j < width; j++) sums[j] += x[k * x_k] * y[k * y_k + j];
        for (Index j = 0; j < width; j++) out[j] += sums[j];
    }
}

/* out (n, m) += x (n, K) · y (K, m), for matrices whose elements have these distances along rows and columns. */
ROWS void add_product(REAL *out, Index out_n, Index out_m, const REAL *x, Index x_n, Index x_k, const REAL *y,
                        Index y_k, Index y_m, Index n, Index K, Index m) {
    if (out_m != 1 && out_n == 1) {  /* the transposed product: elements of a row are next to each other */
        const REAL *const matrix = x;
        x = y, y = matrix;
        Index swapped = n;
        n = m, m = swapped;
        swapped = out_n, out_n = out_m, out_m = swapped;
        swapped = x_n, x_n = y_m, y_m = swapped;
        swapped = x_k, x_k = y_k, y_k = swapped;
    }
    for (Index i = 0; i < n; i++, out += out_n, x += x_n) {
        if (m > 1 && out_m == 1 && y_m == 1) {
            Index begin = 0;
            for (; begin + COLUMNS <= m; begin += COLUMNS)
                add_columns(out + begin, x, x_k, y + begin, y_k, K, COLUMNS);
            if (begin < m) add_columns(out + begin, x, x_k, y + begin, y_k, K, m - begin);
        } else {
            for (Index j = 0; j < m; j++) {
                const REAL *const column = y + j * y_m;
                REAL total;
                if (x_k == 1 && y_k == 1)
                    SUM_OF(total, K, x[i] * column[i]);
                else
                    SUM_OF(total, K, x[i * x_k] * column[i * y_k]);
                out[j * out_m] += total;
            }
        }
    }
}

#endif
