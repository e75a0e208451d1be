/* What the generated code of a step over a sequence shares; see emit/c_forward.py. It calls what runtime.h describes. */

#ifndef SEQUENCE_H
#define SEQUENCE_H

#include "functions.h"
#include "rows.h"
#include "runtime.h"

/* Before a loop of which no iteration reads what a different one writes. */
#if defined __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined __GNUC__
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define INDEPENDENT
#endif

/* At the beginning of an iteration of a loop that must not be vectorized. gcc 12 vectorizes loops wrongly that choose by a
   condition among elements which are not next to each other, such as the first, second and third of each row. */
#ifdef __GNUC__
#define ONE_BY_ONE __asm__ volatile("");
#else
#define ONE_BY_ONE
#endif

typedef unsigned char Flag;

/* A chunk of the steps of a sequence: n steps from `begin` on, of T steps of B rows. `kept_from` is the first of them in
   the arrays of kept values. */
typedef struct {
    Index T, B, begin, n, kept_from;
    int reverse, saving;
    Index done;
    void *const *arrays;
    REAL *const *panels;
    Index threads;
} Job;

typedef struct {
    REAL *c;
    Index c_row;
    const REAL *a;
    Index a_row, M;
    const REAL *panels;
    Index N, K, width;
    int add;
} Columns;

static void product_part(void *columns, Index first, Index last) {
    const Columns *p = columns;
    const Index begin = first * p->width, end = last * p->width < p->N ? last * p->width : p->N;
    product(p->c + begin, p->c_row, p->a, p->a_row, p->M, p->panels + begin * p->K, end - begin, p->K, p->add);
}

/* The same as `product`. Threads share the columns, unless they share the rows of a already. */
static inline void product_by_columns(Index threads, REAL *c, Index c_row, const REAL *a, Index a_row, Index M,
                                      const REAL *panels, Index N, Index K, int add) {
    const Index width = panels_size(1, 1);
    Columns columns = {c, c_row, a, a_row, M, panels, N, K, width, add};
    share_briefly(threads, (N + width - 1) / width, product_part, &columns);
}

typedef struct {
    REAL *panels;
    const REAL *matrix;
    Index row, K, N;
    int transposed;
} Packing;

static void pack_part(void *packing, Index first, Index last) {
    const Packing *p = packing;
    if (p->transposed)
        pack_transposed(p->panels, p->matrix, p->row, p->K, p->N, first, last);
    else
        pack(p->panels, p->matrix, p->row, p->K, p->N, first, last);
}

/* The panels of the transpose of a weight (O, I), for products x · weightᵀ. */
static inline void pack_weight_transposed(Index threads, REAL *panels, const REAL *weight, Index O, Index I) {
    Packing packing = {panels, weight, I, I, O, 1};
    share(threads, O, pack_part, &packing);
}

/* The panels of a matrix (K, N). */
static inline void pack_matrix(Index threads, REAL *panels, const REAL *matrix, Index K, Index N) {
    Packing packing = {panels, matrix, N, K, N, 0};
    share(threads, K, pack_part, &packing);
}

typedef struct {
    REAL *sum;
    const REAL *g, *panels;
    Index O, I, N;
    int add;
} Contraction;

static void contraction_part(void *contraction, Index first, Index last) {
    const Contraction *c = contraction;
    product_transposed(c->sum + first * c->I, c->I, c->g + first, c->O, last - first, c->panels, c->I, c->N, c->add);
}

/* sum (O, I) = [sum +] gᵀ · x, for the rows of g (N, O) and x (N, I). */
static inline void add_products_of_rows(Index threads, REAL *sum, const REAL *g, Index O, const REAL *x, REAL *panels,
                                        Index I, Index N, int add) {
    pack_matrix(threads, panels, x, N, I);
    Contraction contraction = {sum, g, panels, O, I, N, add};
    share(threads, O, contraction_part, &contraction);
}

typedef struct {
    REAL *sum;
    const REAL *rows;
    Index columns, N;
    int add;
} ColumnSums;

/* Long sums are computed in blocks, whose sums are added up in double, so that the rounding error grows slowly. */
enum { ROWS_A_BLOCK = 64, COLUMNS_AT_ONCE = 64 };

static void column_sums_part(void *sums, Index first, Index last) {
    const ColumnSums *c = sums;
    for (Index begin = first; begin < last; begin += COLUMNS_AT_ONCE) {
        const Index width = last - begin < COLUMNS_AT_ONCE ? last - begin : COLUMNS_AT_ONCE;
        double total[COLUMNS_AT_ONCE];
        REAL block[COLUMNS_AT_ONCE];
        for (Index j = 0; j < width; j++) total[j] = c->add ? c->sum[begin + j] : 0;
        for (Index row = 0; row < c->N; row += ROWS_A_BLOCK) {
            const Index end = row + ROWS_A_BLOCK < c->N ? row + ROWS_A_BLOCK : c->N;
            for (Index j = 0; j < width; j++) block[j] = 0;
            for (Index i = row; i < end; i++)
                for (Index j = 0; j < width; j++) block[j] += c->rows[i * c->columns + begin + j];
            for (Index j = 0; j < width; j++) total[j] += block[j];
        }
        for (Index j = 0; j < width; j++) c->sum[begin + j] = (REAL)total[j];
    }
}

/* sum (columns,) = [sum +] the sum of the rows (N, columns). */
static inline void add_rows_up(Index threads, REAL *sum, const REAL *rows, Index columns, Index N, int add) {
    ColumnSums sums = {sum, rows, columns, N, add};
    share(threads, columns, column_sums_part, &sums);
}

#endif
