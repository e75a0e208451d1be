// Adds to rows with duplicates: the embedding's gradient. There are no atomics, whose order is not defined: the rows are
// sorted, and each is computed by one block, or by several blocks with 32 columns each.
#include "common.cuh"

// The position of the first of the N sorted numbers that is not below `number`.
__device__ inline Index first_from(const Index* sorted, Index N, Index number) {
    Index low = 0, high = N;
    while (low < high) {
        const Index middle = (low + high) / 2;
        if (sorted[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// Adds the values (N, C) to target (rows, C). sorted (N,) are their rows in ascending order, and order (N,) is the
// position of each in `values`. With `by_row`, each block in x is a row of the target. Otherwise, if rows have few
// values, it is a position in `sorted`, and the first position of a row computes the row. Rows of a block's threads share
// the values for a row, and are summed in their order.
extern "C" __global__ void add_rows(Real* target, const Index* sorted, const Index* order, const Real* values,
                                    Index by_row, Index N, Index C) {
    Index row = blockIdx.x, begin = blockIdx.x, end;
    if (by_row) {
        begin = first_from(sorted, N, row);
        end = first_from(sorted, N, row + 1);
        if (begin == end) return;
    } else {
        row = sorted[begin];
        if (begin && sorted[begin - 1] == row) return;
        for (end = begin + 1; end < N && sorted[end] == row;) ++end;
    }
    Wide* sums = shared<Wide>();
    for (Index first = (Index)blockIdx.y * blockDim.x; first < C; first += (Index)gridDim.y * blockDim.x) {
        const Index c = first + threadIdx.x;
        Sum terms;
#pragma unroll 4
        for (Index n = begin + threadIdx.y; n < end; n += blockDim.y)
            if (c < C) terms.add((Wide)values[order[n] * C + c]);
        Wide sum = terms.value();
        __syncthreads();
        sums[threadIdx.y * blockDim.x + threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.y != 0 || c >= C) continue;
        for (unsigned y = 1; y < blockDim.y; ++y) sum += sums[y * blockDim.x + threadIdx.x];
        target[row * C + c] = (Wide)target[row * C + c] + sum;
    }
}
