// A step of a simple recurrent network without its matrix product.
#include "recurrent.cuh"

// net (T, B, H) = W·x + U·h.
extern "C" __global__ void rnn_forward_step(const Real* net, const Real* bias, Real* h, Real* out, const Index* lengths,
                                            Index t, Index before, Index after, Index B, Index H) {
    const Place at = place(B, H);
    if (!at.inside) return;
    if (!at.in_sequence(lengths, t)) {
        store(h + at.in(after), load(h + at.in(before)));
        store(out + at.in(t), zeros());
        return;
    }
    Pack new_h = load(net + at.in(t));
    const Pack bias_h = load(bias + at.u);
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) new_h.at[k] = tanh((Wide)new_h.at[k] + (Wide)bias_h.at[k]);
    store(h + at.in(after), new_h);
    if (lengths) store(out + at.in(t), new_h);
}

// g_net (T, B, H): the gradient of the argument of tanh. g_h gets the part of the gradient of h before the step that does
// not come through it: that of ended sequences. Without lengths it is unchanged.
extern "C" __global__ void rnn_backward_step(const Real* h, const Real* g_out, Real* g_h, Real* g_net,
                                             const Index* lengths, Index t, Index after, Index B, Index H) {
    const Place at = place(B, H);
    if (!at.inside) return;
    if (!at.in_sequence(lengths, t)) {
        store(g_net + at.in(t), zeros());
        return;
    }
    Pack of_net = load(h + at.in(after));
    const Pack of_out = load(g_out + at.in(t)), of_h = load(g_h + at.in(0));
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) {
        const Wide wide_h = of_net.at[k];
        of_net.at[k] = ((Wide)of_h.at[k] + (Wide)of_out.at[k]) * (1 - wide_h * wide_h);
    }
    store(g_net + at.in(t), of_net);
    if (lengths) store(g_h + at.in(0), zeros());
}
