// The cross entropy of logits (N, C) and class ids (N,). A row of the block's threads computes a row of the logits.
#include "common.cuh"

// The maximum of some numbers, and the sum of exp(number - maximum).
struct Powers {
    Wide largest, sum;
};

// exp(x - largest): 1 if both are -∞, whose difference is NaN; but NaN if both are ∞.
__device__ inline Wide power(Wide x, Wide largest) {
    return x == largest && (x < 0 || x - x == 0) ? (Wide)1 : exp(x - largest);
}

__device__ inline Powers joined(const Powers& a, const Powers& b) {
    const Wide largest = a.largest > b.largest ? a.largest : b.largest;
    return {largest, a.sum * power(a.largest, largest) + b.sum * power(b.largest, largest)};
}

__device__ inline Powers joined_over_row(Powers powers, Powers* room) {
    for (int distance = 16; distance; distance /= 2) {
        const Powers other = {__shfl_xor_sync(~0u, powers.largest, distance),
                              __shfl_xor_sync(~0u, powers.sum, distance)};
        powers = joined(powers, other);
    }
    if (blockDim.x == 32) return powers;
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = powers;
    __syncthreads();
    powers = room[0];
    for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) powers = joined(powers, room[warp]);
    return powers;
}

// losses (N,): -log softmax at the id, 0 for `ignored` ids and NaN for ids that are not a class. largest, sums (N,): for
// the backward kernel.
extern "C" __global__ void cross_entropy_forward(const Real* logits, const Index* ids, Wide* losses, Wide* largest,
                                                 Wide* sums, Index ignored, Index N, Index C) {
    const Index n = (Index)blockIdx.x * blockDim.y + threadIdx.y;
    if (n >= N) return;  // for all threads of a row, which wait for no others
    const Real* row = logits + n * C;
    Powers powers = {(Wide)row[0], 0};  // an element of the row, not yet in the sum
    for (Index c = threadIdx.x; c < C; c += blockDim.x) powers = joined(powers, {(Wide)row[c], 1});
    powers = joined_over_row(powers, shared<Powers>());
    if (threadIdx.x != 0) return;
    const Index id = ids[n];
    const bool known = id >= 0 && id < C;
    const Wide none = 0;
    losses[n] = id == ignored ? none : known ? log(powers.sum) - ((Wide)row[id] - powers.largest) : none / none;
    largest[n] = powers.largest;
    sums[n] = powers.sum;
}

// g_logits (N, C), from the gradients g (N,) of the losses. A thread computes a pack of a row.
extern "C" __global__ void cross_entropy_backward(const Real* logits, const Index* ids, const Wide* g,
                                                  const Wide* largest, const Wide* sums, Real* g_logits, Index ignored,
                                                  Index N, Index C) {
    const Index packs = C / WIDTH, k = thread_number();
    const Index n = k / packs, c = k % packs * WIDTH;
    if (n >= N) return;
    const Index id = ids[n];
    const bool counts = id != ignored && id >= 0 && id < C;
    const Wide g_row = g[n], share = g_row / sums[n];
    Pack pack = load(logits + n * C + c);
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) {
        const Wide of_logit = exp((Wide)pack.at[j] - largest[n]) * share - (c + j == id ? g_row : (Wide)0);
        pack.at[j] = counts ? of_logit : (Wide)0;  // for any logits
    }
    store(g_logits + n * C + c, pack);
}
