// The loss of connectionist temporal classification; see backends/ctc.py. A block computes a row of the batch, and its
// threads share the states of a time step.
#include "common.cuh"

// The logarithm of the sum of three exponentials, which may all be 0.
__device__ inline Wide sum_of_three(Wide x, Wide y, Wide z) {
    const Wide larger = x > y ? x : y, largest = larger > z ? larger : z;
    const Wide base = largest > -(Wide)INFINITY ? largest : (Wide)0;
    return log(exp(x - base) + exp(y - base) + exp(z - base)) + base;
}

// Whether a path may enter a state from two states before.
__device__ inline bool may_leave_out(const Index* labels, Index s, Index blank) {
    return s >= 2 && labels[s] != blank && labels[s] != labels[s - 2];
}

// losses (N,), and alphas (N, T, L) for the backward kernel.
extern "C" __global__ void ctc_forward(const Real* log_probs, const Index* labels, const Index* lengths,
                                       const Index* ends, Wide* losses, Wide* alphas, Index blank, Index T, Index N,
                                       Index C, Index L) {
    const Index n = blockIdx.x, length = lengths[n], end = ends[n];
    const Wide none = -(Wide)INFINITY;
    labels += n * L;
    alphas += n * T * L;
    for (Index t = 0; t < length; ++t) {
        const Wide* before = alphas + (t - 1) * L;
        for (Index s = threadIdx.x; s < end; s += blockDim.x) {
            Wide sum = s < 2 ? (Wide)0 : none;
            if (t) {
                sum = sum_of_three(before[s], s ? before[s - 1] : none,
                                   may_leave_out(labels, s, blank) ? before[s - 2] : none);
            }
            alphas[t * L + s] = sum + (Wide)log_probs[(t * N + n) * C + labels[s]];
        }
        __syncthreads();
    }
    if (threadIdx.x != 0) return;
    const Wide* last = alphas + (length - 1) * L;
    losses[n] = length ? -sum_of_three(last[end - 1], end > 1 ? last[end - 2] : none, none) : end == 1 ? (Wide)0 : -none;
}

// g_log_probs (T, N, C), from the gradients g (N,) of the losses. room is (N, 4, L), and later (N, L). Of the states with
// the same label, the first one adds up the terms of all, so that the order is always the same; `later` leads from a state
// to the next one of its label, and is negative for others than the first.
extern "C" __global__ void ctc_backward(const Real* log_probs, const Index* labels, const Index* lengths,
                                        const Index* ends, const Wide* g, const Wide* losses, const Wide* alphas,
                                        Wide* room, Index* later, Real* g_log_probs, Index blank, Index T, Index N,
                                        Index C, Index L) {
    const Index n = blockIdx.x, length = lengths[n], end = ends[n];
    const Wide none = -(Wide)INFINITY, loss = losses[n];
    labels += n * L;
    alphas += n * T * L;
    room += n * 4 * L;
    later += n * L;
    for (Index k = threadIdx.x; k < T * C; k += blockDim.x) g_log_probs[(k / C * N + n) * C + k % C] = (Wide)0;
    if (loss == -none) return;  // for all threads of the block
    for (Index s = threadIdx.x; s < end; s += blockDim.x) {
        Index next = s + 1, before = s - 1;
        while (next < end && labels[next] != labels[s]) ++next;
        while (before >= 0 && labels[before] != labels[s]) --before;
        later[s] = before < 0 ? next : -next;
    }
    __syncthreads();
    for (Index t = length - 1; t >= 0; --t) {
        const Wide* after = room + (t + 1) % 2 * 2 * L;
        Wide *now = room + t % 2 * 2 * L, *terms = now + L;
        for (Index s = threadIdx.x; s < end; s += blockDim.x) {
            Wide beta = s >= end - 2 ? (Wide)0 : none;
            if (t + 1 < length) {
                const bool leaves_out = s + 2 < end && may_leave_out(labels, s + 2, blank);
                beta = sum_of_three(after[s], s + 1 < end ? after[s + 1] : none, leaves_out ? after[s + 2] : none);
            }
            now[s] = beta + (Wide)log_probs[(t * N + n) * C + labels[s]];
            terms[s] = exp(alphas[t * L + s] + beta + loss) * -g[n];
        }
        __syncthreads();
        for (Index s = threadIdx.x; s < end; s += blockDim.x) {
            if (later[s] < 0) continue;
            Wide sum = terms[s];
            for (Index next = later[s]; next < end; next = -later[next]) sum += terms[next];
            g_log_probs[(t * N + n) * C + labels[s]] = sum;
        }
    }
}
