// Shared by kernels that run for a whole sequence. Their blocks are launched together: those with the same blockIdx.z
// have the same sequences of the batch, each has different units, and they wait for each other at each step. WARPS is
// the number of warps of a block.
#include "common.cuh"

#ifndef ON_HOST
__device__ inline void arrive(unsigned* counter) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" : : "l"(counter) : "memory");
}
__device__ inline unsigned arrivals(const unsigned* counter) {
    unsigned number;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(number) : "l"(counter) : "memory");
    return number;
}
namespace host {
__device__ inline void let_others_go_on() {}  // they run anyway
}  // namespace host
#endif

// Signals the gridDim.y blocks that share a counter that this one has written the values that they wait for.
__device__ inline void tell_others(unsigned* counter) {
    __syncthreads();
    if (threadIdx.x == 0) arrive(counter);
}

// Waits until all of them have signalled n times. Then this block can read what they had written, except through the
// first-level cache.
__device__ inline void wait_for_others(const unsigned* counter, unsigned n) {
    if (threadIdx.x == 0)
        while (arrivals(counter) < n * gridDim.y) host::let_others_go_on();
    __syncthreads();
}

// Four adjacent elements in shared memory, loaded at once.
struct alignas(4 * sizeof(Wide)) Four {
    Wide at[4];
};
__device__ inline Four load_four(const Wide* from) { return *reinterpret_cast<const Four*>(from); }

// Each lane of a warp has 32 numbers. Lane l gets the sum of the l-th number over all lanes.
__device__ inline Wide sum_of_lanes(Wide (&numbers)[32], int lane) {
#pragma unroll
    for (int power = 4; power >= 0; --power) {
        constexpr int most = 16;
        const int distance = 1 << power;
        const bool upper = lane & distance;
#pragma unroll
        for (int k = 0; k < most; ++k) {
            if (k >= distance) continue;
            const Wide sent = upper ? numbers[k] : numbers[k + distance];
            const Wide kept = upper ? numbers[k + distance] : numbers[k];
            numbers[k] = kept + __shfl_xor_sync(~0u, sent, distance);
        }
    }
    return numbers[0];
}

// N adjacent elements that a different block may just have written: they are read past the first-level cache, which may
// have old values.
template <int BYTES> struct Bits;
template <> struct Bits<16> { typedef uint4 type; };
template <> struct Bits<8> { typedef uint2 type; };
template <> struct Bits<4> { typedef unsigned type; };
template <> struct Bits<2> { typedef unsigned short type; };
template <int N> __device__ inline void load_fresh(const Real* from, Wide (&to)[N]) {
    typedef typename Bits<N * sizeof(Real)>::type Whole;
    const Whole bits = __ldcg(reinterpret_cast<const Whole*>(from));
#pragma unroll
    for (int k = 0; k < N; ++k) to[k] = (Wide)reinterpret_cast<const Real*>(&bits)[k];
}
