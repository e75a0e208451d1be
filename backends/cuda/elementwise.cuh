// What generated kernels include: the functions of elements that emit/c_kernels.py names, in the type of arithmetic.
#include "common.cuh"

#undef REAL
#define REAL Wide
#define OF_REAL(name) of_real::name

// The type of the numbers of elements and threads: divisions of 64 bits take several times as long.
#ifdef LARGE
typedef Index Number;
#else
typedef int Number;
#endif

#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

namespace of_real {
__device__ inline Wide abs(Wide x) { return ::fabs(x); }
__device__ inline Wide cos(Wide x) { return ::cos(x); }
__device__ inline Wide erf(Wide x) { return ::erf(x); }
__device__ inline Wide exp(Wide x) { return ::exp(x); }
__device__ inline Wide expm1(Wide x) { return ::expm1(x); }
__device__ inline Wide floor(Wide x) { return ::floor(x); }
__device__ inline Wide log(Wide x) { return ::log(x); }
__device__ inline Wide log1p(Wide x) { return ::log1p(x); }
__device__ inline Wide log1pexp(Wide x) { return (x > 0 ? x : 0) + ::log1p(::exp(-::fabs(x))); }
__device__ inline Wide maximum(Wide x, Wide y) { return x > y || x != x ? x : y; }
__device__ inline Wide minimum(Wide x, Wide y) { return x < y || x != x ? x : y; }
__device__ inline Wide pow(Wide x, Wide y) { return ::pow(x, y); }
__device__ inline Wide round(Wide x) { return ::rint(x); }
__device__ inline Wide sigmoid(Wide x) { return ::sigmoid(x); }
__device__ inline Wide sign(Wide x) { return x > 0 ? 1 : x < 0 ? -1 : x == 0 ? 0 : x; }
__device__ inline Wide sin(Wide x) { return ::sin(x); }
__device__ inline Wide sqrt(Wide x) { return ::sqrt(x); }
__device__ inline Wide tanh(Wide x) { return ::tanh(x); }
}  // namespace of_real
