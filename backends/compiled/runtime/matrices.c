/* Products of matrices, of which the second is packed for it. `compiled/matrices.py` packs the structs. */

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

typedef struct {
    Operands like; /* each pair; its addresses are not used */
    REAL *out;
    const REAL *const *x, *const *y; /* the addresses of the matrices */
    REAL *panels;                    /* a buffer for each thread */
    Index panels_size, number, used;
} Stack;

static Operands pair_of(Stack *stack, Index k, REAL *panels) {
    Operands o = stack->like;
    o.out = stack->out + k * o.M * o.N, o.x = stack->x[k], o.y = stack->y[k], o.panels = panels;
    return o;
}

static void multiply_pairs(void *stack, Index first, Index last) {
    Stack *s = stack;
    REAL *panels = s->panels + __atomic_fetch_add(&s->used, 1, __ATOMIC_RELAXED) * s->panels_size;
    for (Index k = first; k < last; k++) {
        Operands o = pair_of(s, k, panels);
        pack_rows(&o, 0, o.y_transposed ? o.N : o.K);
        multiply_rows(&o, 0, o.M);
    }
}

/* The products of pairs of matrices. Threads share the pairs if there are enough, or else the rows of each. */
void matmul_stack(Index threads, Stack *stack) {
    if (stack->number >= threads) {
        share(threads, stack->number, multiply_pairs, stack);
        return;
    }
    for (Index k = 0; k < stack->number; k++) {
        Operands o = pair_of(stack, k, stack->panels);
        matmul(threads, &o);
    }
}
