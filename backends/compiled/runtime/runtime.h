/* What generated kernels call: products with packed matrices, and threads that share rows.

   REAL is float or double, and defined before this file is included: `kernel_library` of c_runtime.py defines it. It also
   calls `set_runtime`, as these functions are in libraries of their own, which are built once. Strides are in elements,
   and the elements of a row are adjacent. Nothing is read or written outside of the matrices.

     Index panels_size(Index K, Index N)
       The number of elements of the panels of a matrix (K, N). They are read fastest if they are aligned to 64 bytes;
       `line_in` of c_runtime.py finds such an address in a buffer.

     void pack(REAL *panels, const REAL *b, Index b_row, Index K, Index N, Index first, Index last)
       Copies the rows [first, last) of a matrix b (K, N) into its panels. Row k begins at b + k * b_row.

     void pack_transposed(REAL *panels, const REAL *b, Index b_row, Index K, Index N, Index first, Index last)
       Copies the rows [first, last) of a matrix b (N, K) into the panels of its transpose (K, N).

     void product(REAL *c, Index c_row, const REAL *a, Index a_row, Index M,
                  const REAL *panels, Index N, Index K, int add)
       Sets c (M, N) to the product of a (M, K) and the packed matrix (K, N); `add` adds it to c.

     void product_transposed(REAL *c, Index c_row, const REAL *a, Index a_row, Index M,
                             const REAL *panels, Index N, Index K, int add)
       Sets c (M, N) to the product of the transpose of a (K, M) and the packed matrix (K, N); `add` adds it to c.

     void share(Index threads, Index rows, Part *part, void *arguments)
       Calls part(arguments, first, last) for nearly equal parts [first, last) of the rows, each in a thread, and returns
       when all have ended. It may use fewer threads than asked for, so that no result may depend on their number.

     void share_briefly(Index threads, Index rows, Part *part, void *arguments)
       The same for a job that takes no longer than waking a thread, about 50 µs: threads that sleep are woken only if the
       last job was a moment ago, so that more are likely.

   For a layer with a weight (O, I) and B rows, such as the samples of a batch:

     x · weightᵀ               pack_transposed(panels, weight, I, I, O, 0, O)
                               product(out, O, x, I, B, panels, O, I, 0)
     the gradient of x         pack(panels, weight, I, O, I, 0, O)
                               product(g_x, I, g, O, B, panels, I, O, 0)
     the gradient of weight    pack(panels, x, I, B, I, 0, B)
                               product_transposed(g_weight, I, g, O, O, panels, I, B, 0)

   Threads may share the rows that are packed, and the rows of c. An element of c is a sum in an order that depends on K
   only, so results do not depend on how the rows are shared. */

#ifndef RUNTIME_H
#define RUNTIME_H

#include "interface.h"

typedef struct {
    Share *share, *share_briefly;
    PanelsSize *panels_size;
    Pack *pack, *pack_transposed;
    Product *product, *product_transposed;
} Runtime;

static Runtime runtime;

void set_runtime(const Runtime *functions) { runtime = *functions; }

static inline void share(Index threads, Index rows, Part *part, void *arguments) {
    runtime.share(threads, rows, part, arguments);
}

static inline void share_briefly(Index threads, Index rows, Part *part, void *arguments) {
    runtime.share_briefly(threads, rows, part, arguments);
}

static inline Index panels_size(Index K, Index N) { return runtime.panels_size(K, N); }

static inline void pack(REAL *panels, const REAL *b, Index b_row, Index K, Index N, Index first, Index last) {
    runtime.pack(panels, b, b_row, K, N, first, last);
}

static inline void pack_transposed(REAL *panels, const REAL *b, Index b_row, Index K, Index N, Index first,
                                   Index last) {
    runtime.pack_transposed(panels, b, b_row, K, N, first, last);
}

static inline void product(REAL *c, Index c_row, const REAL *a, Index a_row, Index M, const REAL *panels, Index N,
                           Index K, int add) {
    runtime.product(c, c_row, a, a_row, M, panels, N, K, add);
}

static inline void product_transposed(REAL *c, Index c_row, const REAL *a, Index a_row, Index M, const REAL *panels,
                                      Index N, Index K, int add) {
    runtime.product_transposed(c, c_row, a, a_row, M, panels, N, K, add);
}

#endif
