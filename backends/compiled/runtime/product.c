/* Products of a matrix with a packed matrix, for one type of numbers: REAL is float or double.

   The scheme is from Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008): a tile of c
   stays in vector registers, while its sums are computed from rows of a and a panel of b. A panel has two vectors of
   columns of b, for all k; columns after the last one are zeros. */

#include <string.h>

#include "interface.h"

PanelsSize panels_size;
Pack pack, pack_transposed;
Product product, product_transposed;

/* With two vectors of sums for each row of a tile, registers remain for a row of the panel, and one more.

   FMA_FLOAT and FMA_DOUBLE are %0 + %1 * %2 in one instruction. It must be rounded in the same way in all tiles, but
   compilers may decide differently for each of them whether to use it. So it is named where there is one, in assembler,
   as the headers that declare it take 0.1 s to compile. */
#if defined __AVX512F__
#define VECTOR_BYTES 64
#define TILE_ROWS 14
#define REGISTER "v"
#elif defined __AVX__ && defined __FMA__
#define VECTOR_BYTES 32
#define TILE_ROWS 6
#define REGISTER "x"
#elif defined __aarch64__
#define VECTOR_BYTES 16
#define TILE_ROWS 14
#define REGISTER "w"
#define FMA_FLOAT "fmla %0.4s, %1.4s, %2.4s"
#define FMA_DOUBLE "fmla %0.2d, %1.2d, %2.2d"
#else
#define VECTOR_BYTES 16
#define TILE_ROWS 6
#endif

#if defined REGISTER && !defined FMA_FLOAT
#define FMA_FLOAT "vfmadd231ps %2, %1, %0"
#define FMA_DOUBLE "vfmadd231pd %2, %1, %0"
#endif

/* IN_REGISTER prevents that a vector is loaded from memory again each time it is used, as GCC does in low tiles. */
#ifdef REGISTER
#define ADD_PRODUCT(sum, a, b)                                                                                         \
    if (sizeof(REAL) == sizeof(float)) {                                                                               \
        __asm__(FMA_FLOAT : "+" REGISTER(sum) : REGISTER(a), REGISTER(b));                                             \
    } else {                                                                                                           \
        __asm__(FMA_DOUBLE : "+" REGISTER(sum) : REGISTER(a), REGISTER(b));                                            \
    }
#define IN_REGISTER(vector) __asm__("" : "+" REGISTER(vector))
#else
#define ADD_PRODUCT(sum, a, b) sum += (a) * (b)
#define IN_REGISTER(vector)
#endif

enum {
    LANES = VECTOR_BYTES / sizeof(REAL),
    PANEL = 2 * LANES,                  /* columns of a panel */
    WIDE_ROWS = 3,                      /* at most this number of rows is multiplied with ... */
    WIDE_PANELS = 4,                    /* ... several panels at once: fewer sums would not hide latency */
    DEEP = 1024,                        /* terms of a sum that are added up at a time */
    CACHED = 256 * 1024 / sizeof(REAL), /* elements of a that stay in a core's second-level cache for all panels */
    AHEAD = 32,                         /* rows of a panel that are prefetched */
    PLACE = (TILE_ROWS + 7) / 8 * 8,    /* room for a row of a packed tile of the transpose of a */
    PLACES = 32 * 1024 / sizeof(REAL) / PLACE, /* rows of such a tile: it has 32 KB */
};

typedef REAL Vector __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL Unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef REAL Four __attribute__((vector_size(4 * sizeof(REAL))));
typedef REAL UnalignedFour __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

#if defined __has_builtin
#if __has_builtin(__builtin_shufflevector) /* GCC 12 and newer, clang */
#define SHUFFLE __builtin_shufflevector
#endif
#endif

#define ALWAYS static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

ALWAYS Vector load(const REAL *from) { return *(const Unaligned *)from; }
ALWAYS void store(REAL *to, Vector value) { *(Unaligned *)to = value; }
ALWAYS Four load_four(const REAL *from) { return *(const UnalignedFour *)from; }
ALWAYS void store_four(REAL *to, Four value) { *(UnalignedFour *)to = value; }
ALWAYS Vector spread(REAL value) { return value - (Vector){0}; } /* adding 0 would change -0 */
ALWAYS Index smaller(Index a, Index b) { return a < b ? a : b; }
ALWAYS Index larger(Index a, Index b) { return a > b ? a : b; }

/* Computes a tile of c: `rows` rows, and `vectors` vectors of each of `panels` panels. Element k of row r of the first
   factor is at a + r * a_row + k * a_column. The sizes are constants of the caller, so that the sums are in registers. Large
   matrices are not in the near cache: the tile is prefetched while its sums are computed, and so is the panel. */
ALWAYS void tile(const int rows, const int panels, const int vectors, REAL *c, Index c_row, const REAL *a, Index a_row,
                 Index a_column, const REAL *b, Index b_panel, Index depth, int add) {
    Vector sums[TILE_ROWS][2 * WIDE_PANELS];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < panels * vectors; v++) {
            sums[r][v] = (Vector){0};
            __builtin_prefetch(c + r * c_row + v * LANES, 1);
        }
    }
    for (Index k = 0; k < depth; k++, a += a_column, b += PANEL) {
        Vector factors[WIDE_ROWS];
        if (panels > 1) {
            UNROLL for (int r = 0; r < rows; r++) factors[r] = spread(a[r * a_row]);
        }
        UNROLL for (int p = 0; p < panels; p++) {
            Vector row[2];
            UNROLL for (int v = 0; v < vectors; v++) {
                row[v] = load(b + p * b_panel + v * LANES);
                IN_REGISTER(row[v]);
                if (panels == 1) __builtin_prefetch(b + v * LANES + AHEAD * PANEL);
            }
            UNROLL for (int r = 0; r < rows; r++) {
                Vector factor = panels > 1 ? factors[r] : spread(a[r * a_row]);
                UNROLL for (int v = 0; v < vectors; v++) {
                    ADD_PRODUCT(sums[r][p * vectors + v], factor, row[v]);
                }
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < panels * vectors; v++) {
            REAL *to = c + r * c_row + v * LANES;
            store(to, add ? load(to) + sums[r][v] : sums[r][v]);
        }
    }
}

typedef void Tile(REAL *, Index, const REAL *, Index, Index, const REAL *, Index, Index, int);

#define DEFINE_TILE(rows, panels, vectors)                                                                             \
    static void tile_##rows##_##panels##_##vectors(REAL *c, Index c_row, const REAL *a, Index a_row, Index a_column,   \
                                                   const REAL *b, Index b_panel, Index depth, int add) {               \
        tile(rows, panels, vectors, c, c_row, a, a_row, a_column, b, b_panel, depth, add);                             \
    }
#define NAME_TILE(rows, panels, vectors) tile_##rows##_##panels##_##vectors,

#if TILE_ROWS == 14
#define EACH_HEIGHT(X, ...)                                                                                            \
    X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__) X(4, __VA_ARGS__) X(5, __VA_ARGS__) X(6, __VA_ARGS__)        \
    X(7, __VA_ARGS__) X(8, __VA_ARGS__) X(9, __VA_ARGS__) X(10, __VA_ARGS__) X(11, __VA_ARGS__) X(12, __VA_ARGS__)     \
    X(13, __VA_ARGS__) X(14, __VA_ARGS__)
#else
#define EACH_HEIGHT(X, ...)                                                                                            \
    X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__) X(4, __VA_ARGS__) X(5, __VA_ARGS__) X(6, __VA_ARGS__)
#endif

EACH_HEIGHT(DEFINE_TILE, 1, 1)
EACH_HEIGHT(DEFINE_TILE, 1, 2)
DEFINE_TILE(1, 4, 2) DEFINE_TILE(2, 4, 2) DEFINE_TILE(3, 4, 2)

static Tile *const HALF_TILES[] = {EACH_HEIGHT(NAME_TILE, 1, 1)};
static Tile *const WHOLE_TILES[] = {EACH_HEIGHT(NAME_TILE, 1, 2)};
static Tile *const WIDE_TILES[] = {tile_1_4_2, tile_2_4_2, tile_3_4_2};

/* A tile of the last panel, of which only `used` columns are in c. */
static void edge_tile(REAL *c, Index c_row, Index used, const REAL *a, Index a_row, Index a_column, const REAL *b,
                      Index depth, Index rows, int add) {
    REAL edge[TILE_ROWS * PANEL];
    Tile *const *tiles = used <= LANES ? HALF_TILES : WHOLE_TILES;
    tiles[rows - 1](edge, PANEL, a, a_row, a_column, b, 0, depth, 0);
    for (Index r = 0; r < rows; r++) {
        REAL *to = c + r * c_row;
        const REAL *from = edge + r * PANEL;
        if (add) {
            for (Index j = 0; j < used; j++) to[j] += from[j];
        } else {
            for (Index j = 0; j < used; j++) to[j] = from[j];
        }
    }
}

/* The product of rows whose elements, for all k, stay in the cache. */
static void product_of_cached(REAL *c, Index c_row, const REAL *a, Index a_row, Index a_column, Index M, const REAL *b,
                              Index b_panel, Index N, Index depth, int add) {
    Index tiles = (M + TILE_ROWS - 1) / TILE_ROWS;
    for (Index j = 0; j < N; j += PANEL, b += b_panel) {
        if (M <= WIDE_ROWS && j + WIDE_PANELS * PANEL <= N) {
            WIDE_TILES[M - 1](c + j, c_row, a, a_row, a_column, b, b_panel, depth, add);
            j += (WIDE_PANELS - 1) * PANEL, b += (WIDE_PANELS - 1) * b_panel;
            continue;
        }
        for (Index t = 0; t < tiles; t++) { /* tiles have nearly the same height, as low tiles cost more per row */
            Index row = M * t / tiles, rows = M * (t + 1) / tiles - row, used = N - j;
            REAL *to = c + row * c_row + j;
            const REAL *from = a + row * a_row;
            if (used >= PANEL) {
                WHOLE_TILES[rows - 1](to, c_row, from, a_row, a_column, b, 0, depth, add);
            } else if (used == LANES) {
                HALF_TILES[rows - 1](to, c_row, from, a_row, a_column, b, 0, depth, add);
            } else {
                edge_tile(to, c_row, used, from, a_row, a_column, b, depth, rows, add);
            }
        }
    }
}

void product(REAL *c, Index c_row, const REAL *a, Index a_row, Index M, const REAL *panels, Index N, Index K,
                     int add) {
    Index begin = 0;
    do { /* once if K is 0: then c is set to 0 */
        Index depth = smaller(DEEP, K - begin);
        Index at_once = larger(CACHED / larger(depth, 1) / TILE_ROWS, 1) * TILE_ROWS;
        for (Index row = 0; row < M; row += at_once) {
            product_of_cached(c + row * c_row, c_row, a + row * a_row + begin, a_row, 1, smaller(at_once, M - row),
                              panels + begin * PANEL, K * PANEL, N, depth, add || begin > 0);
        }
        begin += DEEP;
    } while (begin < K);
}

/* Copies `columns` columns of a, for `depth` values of k, so that they are adjacent for each k. Whole vectors are copied
   if a has enough columns. */
static void pack_columns(REAL *packed, const REAL *a, Index a_row, Index columns, Index depth, int enough) {
    for (Index k = 0; k < depth; k++, a += a_row, packed += PLACE) {
        if (enough) {
            memcpy(packed, a, PLACE * sizeof(REAL));
        } else {
            for (Index m = 0; m < columns; m++) packed[m] = a[m];
        }
    }
}

void product_transposed(REAL *c, Index c_row, const REAL *a, Index a_row, Index M, const REAL *panels, Index N,
                                Index K, int add) {
    REAL packed[PLACES * PLACE];
    Index tiles = (M + TILE_ROWS - 1) / TILE_ROWS, begin = 0;
    do {
        Index depth = smaller(PLACES, K - begin);
        for (Index t = 0; t < tiles; t++) {
            Index row = M * t / tiles, rows = M * (t + 1) / tiles - row;
            pack_columns(packed, a + begin * a_row + row, a_row, rows, depth, row + PLACE <= M);
            product_of_cached(c + row * c_row, c_row, packed, 1, PLACE, rows, panels + begin * PANEL, K * PANEL, N,
                              depth, add || begin > 0);
        }
        begin += PLACES;
    } while (begin < K);
}

Index panels_size(Index K, Index N) { return (N + PANEL - 1) / PANEL * PANEL * K; }

void pack(REAL *panels, const REAL *b, Index b_row, Index K, Index N, Index first, Index last) {
    for (Index k = first; k < last; k++) {
        const REAL *from = b + k * b_row;
        REAL *to = panels + k * PANEL;
        Index j = 0;
        for (; j + PANEL <= N; j += PANEL, to += K * PANEL) memcpy(to, from + j, PANEL * sizeof(REAL));
        if (j < N) {
            for (Index i = 0; i < PANEL; i++) to[i] = 0;
            for (Index i = 0; i < N - j; i++) to[i] = from[j + i];
        }
    }
}

/* Copies the transpose of four rows of four elements. */
ALWAYS void transpose(REAL *to, Index to_row, const REAL *from, Index from_row) {
#ifdef SHUFFLE
    Four a = load_four(from), b = load_four(from + from_row);
    Four c = load_four(from + 2 * from_row), d = load_four(from + 3 * from_row);
    Four ab = SHUFFLE(a, b, 0, 4, 1, 5), cd = SHUFFLE(c, d, 0, 4, 1, 5);
    store_four(to, SHUFFLE(ab, cd, 0, 1, 4, 5));
    store_four(to + to_row, SHUFFLE(ab, cd, 2, 3, 6, 7));
    ab = SHUFFLE(a, b, 2, 6, 3, 7), cd = SHUFFLE(c, d, 2, 6, 3, 7);
    store_four(to + 2 * to_row, SHUFFLE(ab, cd, 0, 1, 4, 5));
    store_four(to + 3 * to_row, SHUFFLE(ab, cd, 2, 3, 6, 7));
#else
    for (int j = 0; j < 4; j++) {
        for (int k = 0; k < 4; k++) to[k * to_row + j] = from[j * from_row + k];
    }
#endif
}

void pack_transposed(REAL *panels, const REAL *b, Index b_row, Index K, Index N, Index first, Index last) {
    enum { LINE = 16 }; /* elements of a row that are copied at a time: the panel's lines for them stay in the cache */
    for (Index begin = first; begin < last; begin = smaller((begin / PANEL + 1) * PANEL, last)) {
        Index end = smaller((begin / PANEL + 1) * PANEL, last); /* of the rows of one panel */
        for (Index line = 0; line < K; line += LINE) {
            Index length = smaller(LINE, K - line), j = begin;
            const REAL *from = b + begin * b_row + line;
            REAL *to = panels + begin / PANEL * PANEL * K + line * PANEL + begin % PANEL;
            for (; j + 4 <= end; j += 4, from += 4 * b_row, to += 4) {
                Index k = 0;
                for (; k + 4 <= length; k += 4) transpose(to + k * PANEL, PANEL, from + k, b_row);
                for (; k < length; k++) {
                    for (int i = 0; i < 4; i++) to[k * PANEL + i] = from[i * b_row + k];
                }
            }
            for (; j < end; j++, from += b_row, to++) {
                for (Index k = 0; k < length; k++) to[k * PANEL] = from[k];
            }
        }
    }
    if (last == N && first < last && N % PANEL) { /* who copies the last row also fills up the last panel */
        REAL *panel = panels + N / PANEL * PANEL * K;
        for (Index k = 0; k < K; k++) {
            for (Index j = N % PANEL; j < PANEL; j++) panel[k * PANEL + j] = 0;
        }
    }
}
