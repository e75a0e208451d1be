// Normalization of the rows of x (rows, columns); see `layer_norm_forward` in `backends/base.py`. Results are bitwise equal for
// any number of threads: one thread computes a row, and the weights' gradients are summed over parts of the rows that do not
// depend on threads. The struct of arguments is packed by `compiled/normalizing.py`.

#include <string.h>

#include "functions.h"
#include "lanes.h"
#include "runtime.h"

typedef struct {
    Index rows, columns, groups, channels;  // of a row: weights (groups, channels), row n uses those of n % groups
    Index rows_a_part;
    double eps;
    const REAL *x, *weight, *bias;
    REAL *means, *scales;     // (rows,)
    REAL *out;
    const REAL *g;
    REAL *g_x;                // or NULL
    REAL *g_weight, *g_bias;  // (parts, groups, channels), or NULL
} Norm;

enum { BLOCK = 64 * LANES };  // elements that are summed without a wider sum in between

static double sum_of_lanes(Lanes lanes) {
    const union { Lanes all; REAL at[LANES]; } sums = {lanes};
    double total = 0;
    for (Index k = 0; k < LANES; k++) total += sums.at[k];
    return total;
}

// The sum of factor·(x - shift), or of its square.
INLINE double sum_of_row(const REAL *x, Index length, REAL shift, REAL factor, int squared) {
    double total = 0;
    Index k = 0;
    while (k + LANES <= length) {
        const Index end = k + BLOCK < length ? k + BLOCK : length;
        Lanes sums = {0};
        for (; k + LANES <= end; k += LANES) {
            const Lanes terms = (loaded(x + k) - shift) * factor;
            sums += squared ? terms * terms : terms;
        }
        total += sum_of_lanes(sums);
    }
    for (; k < length; k++) {
        const REAL term = (x[k] - shift) * factor;
        total += squared ? term * term : term;
    }
    return total;
}

// Adds to the sums of g·w and of g·w·(x - mean)·scale, where w is 1 if it is NULL.
INLINE void add_products(
    const REAL *g, const REAL *w, const REAL *x, REAL mean, REAL scale, Index length, double *of_g, double *of_both
) {
    Index k = 0;
    while (k + LANES <= length) {
        const Index end = k + BLOCK < length ? k + BLOCK : length;
        Lanes sums = {0}, products = {0};
        for (; k + LANES <= end; k += LANES) {
            const Lanes terms = w ? loaded(g + k) * loaded(w + k) : loaded(g + k);
            sums += terms;
            products += terms * ((loaded(x + k) - mean) * scale);
        }
        *of_g += sum_of_lanes(sums);
        *of_both += sum_of_lanes(products);
    }
    for (; k < length; k++) {
        const REAL term = w ? g[k] * w[k] : g[k];
        *of_g += term;
        *of_both += term * ((x[k] - mean) * scale);
    }
}

static REAL scale_of(const REAL *x, Index length, REAL mean, double eps) {
    const REAL scale = 1 / sqrt(sum_of_row(x, length, mean, 1, 1) / length + eps);
    if (scale != 0) return scale;
    const REAL factor = sizeof(REAL) == 8 ? (REAL)0x1p-540 : (REAL)0x1p-80;  // squares overflow; eps is negligible
    return factor / sqrt(sum_of_row(x, length, mean, factor, 1) / length);
}

static void normalize(void *arguments, Index first, Index last) {
    const Norm *n = arguments;
    const Index length = n->columns / n->channels;  // the number of adjacent elements that have one weight
    for (Index row = first; row < last; row++) {
        const REAL *restrict x = n->x + row * n->columns;
        REAL *restrict out = n->out + row * n->columns;
        const Index group = row % n->groups * n->channels;
        const REAL *restrict weight = n->weight ? n->weight + group : NULL;
        const REAL *restrict bias = n->bias ? n->bias + group : NULL;
        const REAL mean = sum_of_row(x, n->columns, 0, 1, 0) / n->columns;
        const REAL scale = scale_of(x, n->columns, mean, n->eps);
        n->means[row] = mean;
        n->scales[row] = scale;
        if (length == 1) {
            for (Index k = 0; k < n->columns; k++) out[k] = (x[k] - mean) * scale;
            if (weight) for (Index k = 0; k < n->columns; k++) out[k] *= weight[k];
            if (bias) for (Index k = 0; k < n->columns; k++) out[k] += bias[k];
            continue;
        }
        for (Index c = 0; c < n->channels; c++) {
            const REAL factor = weight ? scale * weight[c] : scale, added = bias ? bias[c] : 0;
            for (Index k = c * length; k < (c + 1) * length; k++) out[k] = (x[k] - mean) * factor + added;
        }
    }
}

static void find_gradients(void *arguments, Index first, Index last) {
    const Norm *n = arguments;
    const Index columns = n->columns, channels = n->channels, length = columns / channels, all = n->groups * channels;
    for (Index part = first; part < last; part++) {
        REAL *g_weights = n->g_weight ? n->g_weight + part * all : NULL;
        REAL *g_biases = n->g_bias ? n->g_bias + part * all : NULL;
        if (g_weights) memset(g_weights, 0, all * sizeof(REAL));
        if (g_biases) memset(g_biases, 0, all * sizeof(REAL));
        const Index begin = part * n->rows_a_part, rest = n->rows - begin;
        const Index end = begin + (n->rows_a_part < rest ? n->rows_a_part : rest);
        for (Index row = begin; row < end; row++) {
            const REAL *restrict x = n->x + row * columns, *restrict g = n->g + row * columns;
            const REAL mean = n->means[row], scale = n->scales[row];
            const Index group = row % n->groups * channels;
            const REAL *restrict weight = n->weight ? n->weight + group : NULL;
            REAL *restrict g_weight = g_weights ? g_weights + group : NULL;
            REAL *restrict g_bias = g_biases ? g_biases + group : NULL;
            double sum = 0, products = 0;
            if (length == 1) {
                add_products(g, weight, x, mean, scale, columns, &sum, &products);
                if (g_weight) for (Index k = 0; k < columns; k++) g_weight[k] += g[k] * ((x[k] - mean) * scale);
                if (g_bias) for (Index k = 0; k < columns; k++) g_bias[k] += g[k];
            } else {
                for (Index c = 0; c < channels; c++) {
                    double of_g = 0, of_both = 0;
                    add_products(g + c * length, NULL, x + c * length, mean, scale, length, &of_g, &of_both);
                    if (g_weight) g_weight[c] += of_both;
                    if (g_bias) g_bias[c] += of_g;
                    sum += weight ? of_g * weight[c] : of_g;
                    products += weight ? of_both * weight[c] : of_both;
                }
            }
            if (!n->g_x) continue;
            // Changes of the mean or the scale of a row have no effect on the output.
            REAL *restrict g_x = n->g_x + row * columns;
            const REAL along_mean = sum / columns, along_scale = products / columns;
            if (length == 1 && weight) {
                for (Index k = 0; k < columns; k++) {
                    g_x[k] = (g[k] * weight[k] - along_mean - (x[k] - mean) * scale * along_scale) * scale;
                }
                continue;
            }
            for (Index c = 0; c < (weight ? channels : 1); c++) {
                const REAL factor = weight ? weight[c] : 1;
                for (Index k = c * length; k < (weight ? (c + 1) * length : columns); k++) {
                    g_x[k] = (g[k] * factor - along_mean - (x[k] - mean) * scale * along_scale) * scale;
                }
            }
        }
    }
}

void norm_forward(Index threads, Norm *n) { share(threads, n->rows, normalize, n); }
void norm_backward(Index threads, Norm *n) {
    share(threads, (n->rows + n->rows_a_part - 1) / n->rows_a_part, find_gradients, n);
}
