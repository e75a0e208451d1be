// CUDA's language for g++: what the kernels in backends/cuda use of it, so that they run on a machine without a GPU.
//
// A block's threads are coroutines, which run one after the other up to the next barrier, in an order that can be set:
// a result that depends on the order has a race in it. Blocks run one after the other too; those of a cooperative
// launch each in a thread of the host's, since they wait for each other. Shared memory begins as NaNs.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <math.h>
#include <type_traits>
#include <utility>

#define ON_HOST 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
extern thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace host {

// The barriers of a thread's block and warp: they return when all of its threads have come to one.
void wait_for_block();
void wait_for_warp();
void let_others_go_on();

void* shared_memory();
void* exchanged(unsigned lane);  // 8 bytes of each thread of the warp

struct Launch {
    dim3 grid, block;
    size_t shared_bytes;
    bool cooperative;
    unsigned order;
};

// Runs body(context) once for each thread; says what went wrong, or nullptr.
const char* run(const Launch& launch, void (*body)(void*), void* context);

// The kinds of a kernel's parameters, a letter each: those that Python's struct module has, 'P' with it for pointers.
template <class T> constexpr char letter_of() {
    if constexpr (std::is_same_v<T, double>) return 'd';
    if constexpr (std::is_same_v<T, float>) return 'f';
    if constexpr (std::is_same_v<T, long long>) return 'q';
    if constexpr (std::is_same_v<T, unsigned>) return 'I';
    if constexpr (std::is_same_v<T, unsigned long long>) return 'Q';
    if constexpr (std::is_same_v<T, bool>) return '?';
    if constexpr (sizeof(T) == 2) return 'e';
    return '!';
}
template <class T> const char* kind_of(char* to) {
    if constexpr (std::is_pointer_v<T>) {
        to[0] = 'P';
        to[1] = letter_of<std::remove_cv_t<std::remove_pointer_t<T>>>();
    } else {
        to[0] = letter_of<T>();
        to[1] = ' ';
    }
    return to;
}
template <class... Parameters> const char* kinds(void (*)(Parameters...)) {
    static char text[2 * sizeof...(Parameters) + 1] = {};
    char* to = text;
    ((kind_of<Parameters>(to), to += 2), ...);
    return text;
}

template <class... Parameters, size_t... K>
const char* launch(const Launch& how, void (*kernel)(Parameters...), void** arguments, std::index_sequence<K...>) {
    struct Context {
        void (*kernel)(Parameters...);
        void** arguments;
    } context{kernel, arguments};
    auto body = [](void* opaque) {
        auto* c = static_cast<Context*>(opaque);
        c->kernel(*static_cast<Parameters*>(c->arguments[K])...);
    };
    return run(how, body, &context);
}
template <class... Parameters>
const char* launch(const Launch& how, void (*kernel)(Parameters...), void** arguments) {
    return launch(how, kernel, arguments, std::index_sequence_for<Parameters...>{});
}

}  // namespace host

inline void __syncthreads() { host::wait_for_block(); }
inline void __syncwarp(unsigned = ~0u) { host::wait_for_warp(); }

inline void arrive(unsigned* counter) { __atomic_fetch_add(counter, 1u, __ATOMIC_RELEASE); }
inline unsigned arrivals(const unsigned* counter) { return __atomic_load_n(counter, __ATOMIC_ACQUIRE); }

template <class T> T __shfl_sync(unsigned, T value, unsigned from) {
    static_assert(sizeof(T) <= 8);
    std::memcpy(host::exchanged(threadIdx.x % 32), &value, sizeof(T));
    host::wait_for_warp();
    std::memcpy(&value, host::exchanged(from), sizeof(T));
    host::wait_for_warp();
    return value;
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, unsigned other) {
    return __shfl_sync(mask, value, threadIdx.x % 32 ^ other);
}

struct uint2 {
    unsigned x, y;
};
struct uint4 {
    unsigned x, y, z, w;
};
template <class T> T __ldcg(const T* from) { return *from; }

inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }

inline float from_half(unsigned short bits) {
    _Float16 value;
    std::memcpy(&value, &bits, 2);
    return (float)value;
}
inline unsigned short to_half(float wide) {
    _Float16 value = (_Float16)wide;
    unsigned short bits;
    std::memcpy(&bits, &value, 2);
    return bits;
}
