/* The product of two matrices, whose second factor is packed for this product. */

#include "runtime.h"

typedef struct {
    REAL *out;
    const REAL *x, *y;
    REAL *panels;
    Index M, K, N, x_row, y_row;
    int x_transposed, y_transposed;
} Operands;

static void pack_rows(void *operands, Index first, Index last) {
    const Operands *o = operands;
    (o->y_transposed ? pack_transposed : pack)(o->panels, o->y, o->y_row, o->K, o->N, first, last);
}

static void multiply_rows(void *operands, Index first, Index last) {
    const Operands *o = operands;
    REAL *out = o->out + first * o->N;
    if (o->x_transposed) {
        product_transposed(out, o->N, o->x + first, o->x_row, last - first, o->panels, o->N, o->K, 0);
    } else {
        product(out, o->N, o->x + first * o->x_row, o->x_row, last - first, o->panels, o->N, o->K, 0);
    }
}

/* out (M, N) = x (M, K) · y (K, N). The rows of a transposed matrix are its columns. The panels are a buffer. */
void matmul(Index threads, REAL *out, const REAL *x, Index x_row, int x_transposed, const REAL *y, Index y_row,
            int y_transposed, REAL *panels, Index M, Index K, Index N) {
    Operands operands = {out, x, y, panels, M, K, N, x_row, y_row, x_transposed, y_transposed};
    share(threads, y_transposed ? N : K, pack_rows, &operands);
    share(threads, M, multiply_rows, &operands);
}
