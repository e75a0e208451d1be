// A step of a GRU without its matrix product.
#include "recurrent.cuh"

// gates (T, B, 3H) in the order r, z, n: W·x on entry; the gates, for the backward pass, on exit. net (B, 3H) = U·h.
// qs (places, B, H), a ring: U_n·h + b_hn, for the backward pass.
extern "C" __global__ void gru_forward_step(Real* gates, const Real* net, const Real* bias, const Real* bias_hn,
                                            Real* h, Real* qs, Index places_of_q, Real* out, const Index* lengths,
                                            Index t, Index before, Index after, Index B, Index H) {
    const Place at = place(B, H);
    if (!at.inside) return;
    const Pack h_before = load(h + at.in(before));
    if (!at.in_sequence(lengths, t)) {
        store(h + at.in(after), h_before);
        store(out + at.in(t), zeros());
        return;
    }
    Real* gate = gates + at.in(t, 3);
    const Real *net_at = net + at.in(0, 3), *bias_at = bias + at.u;
    Pack r = load(gate), z = load(gate + H), n = load(gate + 2 * H), q, new_h;
    const Pack net_r = load(net_at), net_z = load(net_at + H), net_n = load(net_at + 2 * H);
    const Pack bias_r = load(bias_at), bias_z = load(bias_at + H), bias_n = load(bias_at + 2 * H);
    const Pack bias_q = load(bias_hn + at.u);
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) {
        const Wide wide_r = sigmoid((Wide)r.at[k] + (Wide)net_r.at[k] + (Wide)bias_r.at[k]);
        const Wide wide_z = sigmoid((Wide)z.at[k] + (Wide)net_z.at[k] + (Wide)bias_z.at[k]);
        const Wide wide_q = (Wide)net_n.at[k] + (Wide)bias_q.at[k];
        const Wide wide_n = tanh((Wide)n.at[k] + (Wide)bias_n.at[k] + wide_r * wide_q);
        r.at[k] = wide_r, z.at[k] = wide_z, n.at[k] = wide_n, q.at[k] = wide_q;
        new_h.at[k] = wide_n + wide_z * ((Wide)h_before.at[k] - wide_n);
    }
    store(gate, r), store(gate + H, z), store(gate + 2 * H, n);
    store(qs + at.in(t % places_of_q), q);
    store(h + at.in(after), new_h);
    if (lengths) store(out + at.in(t), new_h);
}

// g_net (T, B, 4H): the gradients of n, r, z and q before activation. The first three belong to W·x, the last three to
// U·h. g_h gets the part of the gradient of h before the step that does not come through them.
extern "C" __global__ void gru_backward_step(const Real* gates, const Real* qs, const Real* h, const Real* g_out,
                                             Real* g_h, Real* g_net, const Index* lengths, Index t, Index before,
                                             Index B, Index H) {
    const Place at = place(B, H);
    if (!at.inside) return;
    const Real* gate = gates + at.in(t, 3);
    Real* net = g_net + at.in(t, 4);
    if (!at.in_sequence(lengths, t)) {
        for (int k = 0; k < 4; ++k) store(net + k * H, zeros());
        return;
    }
    Pack r = load(gate), z = load(gate + H), n = load(gate + 2 * H), q = load(qs + at.in(t)), of_h = load(g_h + at.in(0));
    const Pack h_before = load(h + at.in(before)), of_out = load(g_out + at.in(t));
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) {
        const Wide wide_r = r.at[k], wide_z = z.at[k], wide_n = n.at[k];
        const Wide dh = (Wide)of_h.at[k] + (Wide)of_out.at[k];
        const Wide for_n = dh * (1 - wide_z) * (1 - wide_n * wide_n);
        n.at[k] = for_n;
        r.at[k] = for_n * (Wide)q.at[k] * wide_r * (1 - wide_r);
        z.at[k] = dh * ((Wide)h_before.at[k] - wide_n) * wide_z * (1 - wide_z);
        q.at[k] = for_n * wide_r;
        of_h.at[k] = dh * wide_z;
    }
    store(net, n), store(net + H, r), store(net + 2 * H, z), store(net + 3 * H, q);
    store(g_h + at.in(0), of_h);
}
