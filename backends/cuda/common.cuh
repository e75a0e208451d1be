// Shared by all kernels. They are compiled for one dtype of arrays at a time, REAL, and compute in float or double.

typedef long long Index;  // the type of every integer parameter of a kernel

#ifndef ON_HOST  // in a build for the host, the replacement of CUDA's language defines these
__device__ inline float from_half(unsigned short bits) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
}
__device__ inline unsigned short to_half(float wide) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(wide));
    return bits;
}
namespace host {
__device__ inline void* shared_memory() {
    extern __shared__ __align__(128) unsigned char bytes[];
    return bytes;
}
}  // namespace host
#endif

#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

struct Half {
    unsigned short bits;
    Half() = default;
    __device__ Half(float wide) : bits(to_half(wide)) {}
    __device__ operator float() const { return from_half(bits); }
};

typedef REAL Real;

template <class T> struct Widened { typedef T type; };
template <> struct Widened<Half> { typedef float type; };
typedef Widened<Real>::type Wide;

// The block's dynamic shared memory.
template <class T> __device__ inline T* shared() { return static_cast<T*>(host::shared_memory()); }

// The adjacent elements that a thread loads and stores at once: 16 bytes if lengths and addresses allow it.
struct alignas(sizeof(Real) * WIDTH) Pack {
    Real at[WIDTH];
};
__device__ inline Pack load(const Real* from) { return *reinterpret_cast<const Pack*>(from); }
__device__ inline void store(Real* to, const Pack& pack) { *reinterpret_cast<Pack*>(to) = pack; }

// The same for the end of an array, with only `left` elements.
__device__ inline Pack load(const Real* from, Index left) {
    if (left >= WIDTH) return load(from);
    Pack pack;
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) pack.at[k] = k < left ? (Wide)from[k] : (Wide)0;
    return pack;
}
__device__ inline void store(Real* to, const Pack& pack, Index left) {
    if (left >= WIDTH) return store(to, pack);
#pragma unroll
    for (int k = 0; k < WIDTH; ++k)
        if (k < left) to[k] = pack.at[k];
}

// A long sum of one thread: in blocks, and blocks of blocks, so that its rounding error stays small.
struct Sum {
    Wide block = 0, blocks = 0, rest = 0;
    unsigned terms = 0;
    __device__ void add(Wide term) {
        block += term;
        if (++terms % 64) return;
        blocks += block, block = 0;
        if (terms % 4096) return;
        rest += blocks, blocks = 0;
    }
    __device__ Wide value() const { return rest + (blocks + block); }
};

__device__ inline Wide sigmoid(Wide x) { return 1 / (1 + exp(-x)); }

// The index of a thread among all threads, in one dimension.
__device__ inline Index thread_number() { return (Index)blockIdx.x * blockDim.x + threadIdx.x; }

// Sums over the threads of a row of the block (with the same threadIdx.y), in a fixed order. All of them get the sum. A
// row is 32 threads, or a multiple of 32 if it is the whole block; `room` is shared memory for one value per 32 threads.
template <class T> __device__ inline T sum_over_row(T value, T* room) {
    for (int distance = 16; distance; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
    if (blockDim.x == 32) return value;
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) value += room[warp];
    return value;
}
