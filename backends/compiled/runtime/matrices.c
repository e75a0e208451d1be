/* The product of two matrices, of which the second is packed for it. `compiled/matrices.py` packs the struct. */

#include "runtime.h"

typedef struct {
    REAL *out;
    const REAL *x, *y;
    REAL *panels; /* a buffer for those of y */
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

/* out (M, N) = x (M, K) · y (K, N). A transposed matrix is given by its transpose. */
void matmul(Index threads, Operands *operands) {
    share(threads, operands->y_transposed ? operands->N : operands->K, pack_rows, operands);
    share(threads, operands->M, multiply_rows, operands);
}
