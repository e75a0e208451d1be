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

namespace of_real {
__device__ inline Wide abs(Wide x) { return ::fabs(x); }
__device__ inline Wide acos(Wide x) { return ::acos(x); }
__device__ inline Wide acosh(Wide x) { return ::acosh(x); }
__device__ inline Wide asin(Wide x) { return ::asin(x); }
__device__ inline Wide asinh(Wide x) { return ::asinh(x); }
__device__ inline Wide atan(Wide x) { return ::atan(x); }
__device__ inline Wide atan2(Wide x, Wide y) { return ::atan2(x, y); }
__device__ inline Wide atanh(Wide x) { return ::atanh(x); }
__device__ inline Wide ceil(Wide x) { return ::ceil(x); }
__device__ inline Wide cos(Wide x) { return ::cos(x); }
__device__ inline Wide cosh(Wide x) { return ::cosh(x); }
__device__ inline Wide direction(Wide x, Wide y) { return ::sin(::atan2(x, ::fabs(y))); }
__device__ inline Wide erf(Wide x) { return ::erf(x); }
__device__ inline Wide exp(Wide x) { return ::exp(x); }
__device__ inline Wide expm1(Wide x) { return ::expm1(x); }
__device__ inline Wide floor(Wide x) { return ::floor(x); }
__device__ inline Wide hypot(Wide x, Wide y) { return ::hypot(x, y); }
__device__ inline Wide log(Wide x) { return ::log(x); }
__device__ inline Wide log10(Wide x) { return ::log10(x); }
__device__ inline Wide log1p(Wide x) { return ::log1p(x); }
__device__ inline Wide log1pexp(Wide x) { return (x > 0 ? x : 0) + ::log1p(::exp(-::fabs(x))); }
__device__ inline Wide log2(Wide x) { return ::log2(x); }
__device__ inline Wide maximum(Wide x, Wide y) { return x > y || x != x ? x : y; }
__device__ inline Wide minimum(Wide x, Wide y) { return x < y || x != x ? x : y; }
__device__ inline Wide pow(Wide x, Wide y) { return ::pow(x, y); }
__device__ inline Wide round(Wide x) { return ::rint(x); }
__device__ inline Wide sigmoid(Wide x) { return ::sigmoid(x); }
__device__ inline Wide sign(Wide x) { return x > 0 ? 1 : x < 0 ? -1 : x == 0 ? 0 : x; }
__device__ inline Wide sin(Wide x) { return ::sin(x); }
__device__ inline Wide sinh(Wide x) { return ::sinh(x); }
__device__ inline Wide sqrt(Wide x) { return ::sqrt(x); }
__device__ inline Wide tan(Wide x) { return ::tan(x); }
__device__ inline Wide tanh(Wide x) { return ::tanh(x); }
__device__ inline Wide trunc(Wide x) { return ::trunc(x); }
__device__ inline Wide remainder(Wide x, Wide y) {
    const Wide rest = ::fmod(x, y);
    return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
}
__device__ inline Wide floor_divide(Wide x, Wide y) {
    const Wide rest = ::fmod(x, y);
    return y == 0 ? x / y : ::rint((x - rest) / y - (rest != 0 && (rest < 0) != (y < 0)));
}
}  // namespace of_real
