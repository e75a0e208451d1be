// Layer normalization of x (N, C) over its rows. Except for the weights' gradients, a row of the block's threads computes
// a row of x. weight and bias are (C,) or null.
#include "common.cuh"

extern "C" __global__ void layer_norm_forward(const Real* x, const Real* weight, const Real* bias, Real* out,
                                              Wide* means, Wide* scales, double eps, Index N, Index C) {
    const Index n = (Index)blockIdx.x * blockDim.y + threadIdx.y;
    if (n >= N) return;
    Wide* room = shared<Wide>();
    const Real* row = x + n * C;
    Wide sum = 0, squares = 0;
    for (Index c = threadIdx.x; c < C; c += blockDim.x) sum += (Wide)row[c];
    const Wide mean = sum_over_row(sum, room) / C;
    for (Index c = threadIdx.x; c < C; c += blockDim.x) squares += ((Wide)row[c] - mean) * ((Wide)row[c] - mean);
    Wide scale = 1 / sqrt(sum_over_row(squares, room) / C + (Wide)eps);
    if (scale == 0) {  // squares overflow: the numbers are scaled down first; eps is negligible
        const Wide factor = sizeof(Wide) == 8 ? (Wide)0x1p-540 : (Wide)0x1p-80f;
        squares = 0;
        for (Index c = threadIdx.x; c < C; c += blockDim.x) {
            const Wide smaller = ((Wide)row[c] - mean) * factor;
            squares += smaller * smaller;
        }
        scale = factor / sqrt(sum_over_row(squares, room) / C);
    }
    for (Index c = threadIdx.x; c < C; c += blockDim.x) {
        const Wide normalized = ((Wide)row[c] - mean) * scale;
        out[n * C + c] = normalized * (weight ? (Wide)weight[c] : (Wide)1) + (bias ? (Wide)bias[c] : (Wide)0);
    }
    if (threadIdx.x == 0) means[n] = mean, scales[n] = scale;
}

// The parts of the gradient along changes of a row's mean and scale are removed, as these have no effect.
extern "C" __global__ void layer_norm_backward(const Real* g, const Real* x, const Real* weight, const Wide* means,
                                               const Wide* scales, Real* g_x, Index N, Index C) {
    const Index n = (Index)blockIdx.x * blockDim.y + threadIdx.y;
    if (n >= N) return;
    Wide* room = shared<Wide>();
    const Wide mean = means[n], scale = scales[n];
    Wide along_mean = 0, along_scale = 0;
    for (Index c = threadIdx.x; c < C; c += blockDim.x) {
        const Wide weighted = (Wide)g[n * C + c] * (weight ? (Wide)weight[c] : (Wide)1);
        along_mean += weighted;
        along_scale += weighted * ((Wide)x[n * C + c] - mean) * scale;
    }
    along_mean = sum_over_row(along_mean, room) / C;
    along_scale = sum_over_row(along_scale, room) / C;
    for (Index c = threadIdx.x; c < C; c += blockDim.x) {
        const Wide weighted = (Wide)g[n * C + c] * (weight ? (Wide)weight[c] : (Wide)1);
        const Wide normalized = ((Wide)x[n * C + c] - mean) * scale;
        g_x[n * C + c] = (weighted - along_mean - normalized * along_scale) * scale;
    }
}

// of_weight, of_bias (parts, C): the sums over each part of the rows, of gridDim.y parts. A block computes 32 columns;
// its rows of threads share the part's rows of x, and are summed in their order.
extern "C" __global__ void layer_norm_backward_weights(const Real* g, const Real* x, const Wide* means,
                                                       const Wide* scales, Wide* of_weight, Wide* of_bias, Index N,
                                                       Index C) {
    const Index c = (Index)blockIdx.x * 32 + threadIdx.x, rows = (N + gridDim.y - 1) / gridDim.y;
    const Index begin = blockIdx.y * rows, end = begin + rows < N ? begin + rows : N;
    Sum of_weights, of_biases;
    for (Index n = begin + threadIdx.y; n < end && c < C; n += blockDim.y) {
        of_weights.add((Wide)g[n * C + c] * ((Wide)x[n * C + c] - means[n]) * scales[n]);
        of_biases.add((Wide)g[n * C + c]);
    }
    Wide weight = of_weights.value(), bias = of_biases.value();
    Wide* sums = shared<Wide>();
    const unsigned others = 32 * blockDim.y, mine = threadIdx.y * 32 + threadIdx.x;
    sums[mine] = weight, sums[others + mine] = bias;
    __syncthreads();
    if (threadIdx.y != 0 || c >= C) return;
    for (unsigned y = 1; y < blockDim.y; ++y) {
        weight += sums[y * 32 + threadIdx.x];
        bias += sums[others + y * 32 + threadIdx.x];
    }
    of_weight[blockIdx.y * C + c] = weight, of_bias[blockIdx.y * C + c] = bias;
}
