// A step of an LSTM without its matrix product.
#include "recurrent.cuh"

// gates (T, B, 4H) in the order i, f, g, o: W·x + U·h on entry; the gates, for the backward pass, on exit. c may have
// fewer places than h; then it is a ring.
extern "C" __global__ void lstm_forward_step(Real* gates, const Real* bias, Real* h, Real* c, Index places_of_c,
                                             Real* out, const Index* lengths, Index t, Index before, Index after,
                                             Index B, Index H) {
    const Place at = place(B, H);
    if (!at.inside) return;
    const Index c_before_at = at.in(before % places_of_c), c_after_at = at.in(after % places_of_c);
    if (!at.in_sequence(lengths, t)) {
        store(h + at.in(after), load(h + at.in(before)));
        store(c + c_after_at, load(c + c_before_at));
        store(out + at.in(t), zeros());
        return;
    }
    Real* gate = gates + at.in(t, 4);
    const Real* bias_at = bias + at.u;
    Pack i = load(gate), f = load(gate + H), g = load(gate + 2 * H), o = load(gate + 3 * H), new_h, new_c;
    const Pack bias_i = load(bias_at), bias_f = load(bias_at + H);
    const Pack bias_g = load(bias_at + 2 * H), bias_o = load(bias_at + 3 * H);
    const Pack c_before = load(c + c_before_at);
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) {
        const Wide wide_i = sigmoid((Wide)i.at[k] + (Wide)bias_i.at[k]);
        const Wide wide_f = sigmoid((Wide)f.at[k] + (Wide)bias_f.at[k]);
        const Wide wide_g = tanh((Wide)g.at[k] + (Wide)bias_g.at[k]);
        const Wide wide_o = sigmoid((Wide)o.at[k] + (Wide)bias_o.at[k]);
        const Wide wide_c = wide_f * (Wide)c_before.at[k] + wide_i * wide_g;
        i.at[k] = wide_i, f.at[k] = wide_f, g.at[k] = wide_g, o.at[k] = wide_o;
        new_c.at[k] = wide_c, new_h.at[k] = wide_o * tanh(wide_c);
    }
    store(gate, i), store(gate + H, f), store(gate + 2 * H, g), store(gate + 3 * H, o);
    store(c + c_after_at, new_c);
    store(h + at.in(after), new_h);
    if (lengths) store(out + at.in(t), new_h);
}

// g_net (T, B, 4H): the gradients of the gates before activation. g_h gets the part of the gradient of h before the step
// that does not come through the gates: that of ended sequences. Without lengths it is unchanged.
extern "C" __global__ void lstm_backward_step(const Real* gates, const Real* c, const Real* g_out, Real* g_h, Real* g_c,
                                              Real* g_net, const Index* lengths, Index t, Index before, Index after,
                                              Index B, Index H) {
    const Place at = place(B, H);
    if (!at.inside) return;
    const Real* gate = gates + at.in(t, 4);
    Real* net = g_net + at.in(t, 4);
    if (!at.in_sequence(lengths, t)) {
        for (int k = 0; k < 4; ++k) store(net + k * H, zeros());
        return;
    }
    Pack i = load(gate), f = load(gate + H), g = load(gate + 2 * H), o = load(gate + 3 * H);
    const Pack c_before = load(c + at.in(before)), c_after = load(c + at.in(after));
    const Pack of_out = load(g_out + at.in(t)), of_h = load(g_h + at.in(0));
    Pack of_c = load(g_c + at.in(0));
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) {
        const Wide wide_i = i.at[k], wide_f = f.at[k], wide_g = g.at[k], wide_o = o.at[k];
        const Wide tanh_c = tanh((Wide)c_after.at[k]);
        const Wide dh = (Wide)of_h.at[k] + (Wide)of_out.at[k];
        const Wide dc = (Wide)of_c.at[k] + dh * wide_o * (1 - tanh_c * tanh_c);
        i.at[k] = dc * wide_g * wide_i * (1 - wide_i);
        f.at[k] = dc * (Wide)c_before.at[k] * wide_f * (1 - wide_f);
        g.at[k] = dc * wide_i * (1 - wide_g * wide_g);
        o.at[k] = dh * tanh_c * wide_o * (1 - wide_o);
        of_c.at[k] = dc * wide_f;
    }
    store(net, i), store(net + H, f), store(net + 2 * H, g), store(net + 3 * H, o);
    store(g_c + at.in(0), of_c);
    if (lengths) store(g_h + at.in(0), zeros());
}
