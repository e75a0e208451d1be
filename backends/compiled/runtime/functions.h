// Elementary functions of float (exp_f32, ...) and of double (exp_f64, ...), for loops that compilers vectorize. In code
// that is compiled for a type REAL, `OF_REAL(exp)` is one of these.
//
// No branch depends on a value: a function computes one formula, and selects the results of special cases. For NaNs,
// infinities and zeros the results are NumPy's. The functions at the end call the C library for each element: `pow`,
// the trigonometric and hyperbolic functions except `tanh`, `log2` and `log10`, and division with a remainder.
//
// Largest errors found, in units in the last place: tanh 2.5; sigmoid 2.5, and 0 for results below the normal numbers;
// expm1 1.9, log1pexp 1.7, exp and erf 1.1, log and log1p 0.9; the others have one rounding.
#ifndef FUNCTIONS_H
#define FUNCTIONS_H

#include <float.h>
#include <math.h>
#include <stdint.h>

#if FLT_EVAL_METHOD == 2
#error "floats are computed in a wider format here, but these functions depend on their roundings"
#endif

// Compilers inline only so much into a large loop, and do not vectorize a loop that calls the rest.
#define INLINE static inline __attribute__((always_inline))

#define OF_REAL(name) JOINED(name, JOINED(_OF_, REAL))
#define JOINED(a, b) PASTED(a, b)
#define PASTED(a, b) a##b
#define _OF_float _f32
#define _OF_double _f64

#define TYPE float
#define BITS uint32_t
#define FN(name) name##_f32
#define LIBM(name) name##f
#define DIGITS 23
#define BIAS 127
#define LOWEST -104  // e^x is 0 from here on
#define HIGHEST 89   // e^x is infinite from here on
#define TINY -20     // e^x - 1 is -1 from here on
// ln 2 in two parts. The first has few digits, so that its products with exponents are exact.
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#include "functions_of_type.h"

#define TYPE double
#define BITS uint64_t
#define FN(name) name##_f64
#define LIBM(name) name
#define DIGITS 52
#define BIAS 1023
#define LOWEST -746
#define HIGHEST 710
#define TINY -40
#define LN2_HIGH 0x1.62e42fefa4p-1
#define LN2_LOW -0x1.8432a1b0e2634p-43
#include "functions_of_type.h"

#endif
