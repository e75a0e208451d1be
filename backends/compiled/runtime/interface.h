/* The types of the functions that runtime.h describes. Define REAL as float or double before this file is included. */

#ifndef INTERFACE_H
#define INTERFACE_H

#include <stddef.h>

typedef ptrdiff_t Index;

typedef void Part(void *arguments, Index first, Index last);
typedef void Share(Index threads, Index rows, Part *part, void *arguments);

#ifdef REAL
typedef Index PanelsSize(Index K, Index N);
typedef void Pack(REAL *panels, const REAL *b, Index b_row, Index K, Index N, Index first, Index last);
typedef void Product(REAL *c, Index c_row, const REAL *a, Index a_row, Index M, const REAL *panels, Index N, Index K,
                     int add);
#endif

#endif
