// Operations on all parameters, or all gradients, at once. A block processes a piece of one: `pieces` (blocks,
// 1 + arrays) has the number of its elements, and their address in each of the arrays of the parameter.
#include "common.cuh"

struct Piece {
    const Index* row;
    __device__ explicit Piece(const Index* pieces, int arrays) : row(pieces + blockIdx.x * (Index)(1 + arrays)) {}
    __device__ Index size() const { return row[0]; }
    __device__ Real* array(int k) const { return reinterpret_cast<Real*>(row[1 + k]); }
};

// sums (blocks,): the sum of squares of each piece, in double, as float may overflow.
extern "C" __global__ void sum_of_squares(const Index* pieces, double* sums) {
    const Piece piece(pieces, 1);
    double sum = 0;
    for (Index begin = threadIdx.x * WIDTH; begin < piece.size(); begin += blockDim.x * WIDTH) {
        const Pack x = load(piece.array(0) + begin, piece.size() - begin);  // zeros after the end
#pragma unroll
        for (int k = 0; k < WIDTH; ++k) sum += (double)(Wide)x.at[k] * (double)(Wide)x.at[k];
    }
    sum = sum_over_row(sum, shared<double>());
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

extern "C" __global__ void scale(const Index* pieces, const Wide* factor) {
    const Piece piece(pieces, 1);
    for (Index begin = threadIdx.x * WIDTH; begin < piece.size(); begin += blockDim.x * WIDTH) {
        const Index left = piece.size() - begin;
        Pack x = load(piece.array(0) + begin, left);
#pragma unroll
        for (int k = 0; k < WIDTH; ++k) x.at[k] = (Wide)x.at[k] * *factor;
        store(piece.array(0) + begin, x, left);
    }
}

// p, g, m, v, and with `amsgrad` the maximum of all v so far:
// p = shrink · p;  d = g + decay · p;  m = β₁ m + (1 - β₁) d;  v = β₂ v + (1 - β₂) d²;  p = p - rate · m / (√v + eps).
extern "C" __global__ void adam_update(const Index* pieces, Index amsgrad, double shrink, double decay, double beta1,
                                       double beta2, double eps, double rate) {
    const Piece piece(pieces, amsgrad ? 5 : 4);
    for (Index begin = threadIdx.x * WIDTH; begin < piece.size(); begin += blockDim.x * WIDTH) {
        const Index left = piece.size() - begin;
        Pack p = load(piece.array(0) + begin, left), m = load(piece.array(2) + begin, left);
        Pack v = load(piece.array(3) + begin, left), most = v;
        const Pack g = load(piece.array(1) + begin, left);
        if (amsgrad) most = load(piece.array(4) + begin, left);
#pragma unroll
        for (int k = 0; k < WIDTH; ++k) {
            const Wide before = (Wide)p.at[k] * (Wide)shrink, d = (Wide)g.at[k] + (Wide)decay * before;
            const Wide new_m = (Wide)m.at[k] + (Wide)(1 - beta1) * (d - (Wide)m.at[k]);
            const Wide new_v = (Wide)beta2 * (Wide)v.at[k] + (Wide)(1 - beta2) * d * d;
            const Wide divisor = amsgrad && (Wide)most.at[k] > new_v ? (Wide)most.at[k] : new_v;
            m.at[k] = new_m, v.at[k] = new_v, most.at[k] = divisor;
            p.at[k] = before - (Wide)rate * new_m / (sqrt(divisor) + (Wide)eps);
        }
        store(piece.array(0) + begin, p, left), store(piece.array(2) + begin, m, left);
        store(piece.array(3) + begin, v, left);
        if (amsgrad) store(piece.array(4) + begin, most, left);
    }
}

// p, g, and with momentum the running sum b: d = g + decay · p;  b = momentum · b + share · d;  p = p - rate · b, or with
// `nesterov` p - rate · (d + momentum · b).
extern "C" __global__ void sgd_update(const Index* pieces, Index has_momentum, Index nesterov, double decay,
                                      double momentum, double share, double rate) {
    const Piece piece(pieces, has_momentum ? 3 : 2);
    for (Index begin = threadIdx.x * WIDTH; begin < piece.size(); begin += blockDim.x * WIDTH) {
        const Index left = piece.size() - begin;
        Pack p = load(piece.array(0) + begin, left), b = p;
        const Pack g = load(piece.array(1) + begin, left);
        if (has_momentum) b = load(piece.array(2) + begin, left);
#pragma unroll
        for (int k = 0; k < WIDTH; ++k) {
            Wide d = (Wide)g.at[k] + (Wide)decay * (Wide)p.at[k];
            if (has_momentum) {
                const Wide sum = (Wide)momentum * (Wide)b.at[k] + (Wide)share * d;
                b.at[k] = sum;
                d = nesterov ? d + (Wide)momentum * sum : sum;
            }
            p.at[k] = (Wide)p.at[k] - (Wide)rate * d;
        }
        store(piece.array(0) + begin, p, left);
        if (has_momentum) store(piece.array(2) + begin, b, left);
    }
}
