// Shared by the steps of recurrent networks. A thread computes a pack of adjacent units of one sequence.
//
// Arrays: h and c (places, B, H), with the states before the step at `before` and after it at `after`; out and g_out (T,
// B, H); g_h and g_c (B, H), the gradients of the states after the step, without the part through out, which become those
// before it; lengths (B,), or null if every sequence has T steps.
#include "common.cuh"

struct Place {
    int b, u;  // the sequence, and the first unit of the pack
    bool inside;

    // The offset of the thread's part of a step, in arrays (places, B, gates, H).
    Index B, H;
    __device__ Index in(Index place, int gates = 1) const { return ((place * B + b) * gates) * H + u; }

    __device__ bool in_sequence(const Index* lengths, Index t) const { return !lengths || t < lengths[b]; }
};

__device__ inline Place place(Index B, Index H) {
    const int packs = (int)H / WIDTH;
    const Index k = thread_number();
    return {(int)(k / packs), (int)(k % packs) * WIDTH, k < B * packs, B, H};
}

__device__ inline Pack zeros() {
    Pack pack;
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) pack.at[k] = (Wide)0;
    return pack;
}
