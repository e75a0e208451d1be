/* Vectors of the processor, for loops that compilers do not vectorize by themselves: they may not add in a different order. */

#ifndef LANES_H
#define LANES_H

#include <string.h>

#if defined __AVX512F__
typedef REAL Lanes __attribute__((vector_size(64)));
#elif defined __AVX__
typedef REAL Lanes __attribute__((vector_size(32)));
#else
typedef REAL Lanes __attribute__((vector_size(16)));
#endif

enum { LANES = sizeof(Lanes) / sizeof(REAL) };

static inline Lanes loaded(const REAL *x) {
    Lanes lanes;
    memcpy(&lanes, x, sizeof lanes);
    return lanes;
}

#endif
