// A layer of an LSTM in one launch: each block has the recurrent weights of its units in registers, from the first step
// to the last. Compiled for one hidden size, HIDDEN, and UNITS to a block.
//
// Arrays: gates (T, B, 4H) in the order i, f, g, o, with W·x on entry and the gates on exit; h and c (T + 1, B, H), the
// states before and after each step, of which c may be a ring of fewer; out and g_out (T, B, H); g_h and g_c (B, H), the
// gradients of the states after the last step, which become those before the first; g_net (T, B, 4H), the gradients of the
// gates before activation; lengths (B,), or null if every sequence has T steps. A block has `rows` sequences of the batch;
// `counters` are zeros, COUNTER_STEP of them for each group of blocks.
#include "persistent.cuh"

constexpr int H = HIDDEN;

__device__ inline bool is_going(const Index* lengths, Index b, Index t) { return !lengths || t < lengths[b]; }

// -- forward ----------------------------------------------------------------------------------------------------------
// Each warp has the rows of U for all four gates of a few units. Its lanes share the elements of h: four adjacent ones of
// each 128. Then each lane gets one of the sums for 32 pairs of a sequence and a gate, and computes this gate.

constexpr int COLUMNS = 4 * UNITS / WARPS;     // gates of a warp
constexpr int ROWS = 32 / COLUMNS;             // sequences at once
constexpr int PARTS = (H + 127) / 128;         // of h
constexpr int PADDED = PARTS * 128;
constexpr int AT_ONCE = H % 4 == 0 ? 4 : H % 2 == 0 ? 2 : 1;  // elements of h that are loaded together

// The states of up to `number` sequences from the first one on, as rows of length PADDED, padded with zeros.
__device__ inline void stage(Wide* staged, const Real* h, Index first, Index last, int number) {
    constexpr int LOADS = PADDED / AT_ONCE;
#pragma unroll 4
    for (int k = threadIdx.x; k < number * LOADS; k += 32 * WARPS) {
        const int row = k / LOADS, begin = k % LOADS * AT_ONCE;
        Wide values[AT_ONCE] = {};
        if (first + row < last && begin < H) load_fresh(h + (first + row) * H + begin, values);
#pragma unroll
        for (int j = 0; j < AT_ONCE; ++j) staged[row * PADDED + begin + j] = values[j];
    }
}

// The states of `staged_rows` of the block's sequences, a multiple of ROWS, are in shared memory at a time.
extern "C" __global__ void __launch_bounds__(32 * WARPS, 1)
persistent_lstm_forward(Real* gates, const Real* weight_hh, const Real* bias, Real* h, Real* c, Index places_of_c,
                        Real* out, const Index* lengths, unsigned* counters, Index T, Index B, Index rows,
                        Index staged_rows, Index reverse) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Index first = blockIdx.z * rows, last = first + rows < B ? first + rows : B;
    const int first_unit = blockIdx.y * UNITS + warp * (COLUMNS / 4);
    Wide* staged = shared<Wide>();                  // (staged_rows, PADDED)
    Wide* cells = staged + staged_rows * PADDED;    // (rows, UNITS)

    Wide weights[PARTS][4][COLUMNS];
#pragma unroll
    for (int part = 0; part < PARTS; ++part)
#pragma unroll
        for (int k = 0; k < 4; ++k)
#pragma unroll
            for (int column = 0; column < COLUMNS; ++column) {
                const int unit = first_unit + column / 4, from = part * 128 + lane * 4 + k;
                const bool there = unit < H && from < H;
                weights[part][k][column] = there ? (Wide)weight_hh[(Index)(column % 4 * H + unit) * H + from] : (Wide)0;
            }

    // The sequence and gate of this lane's sum.
    const int my_row = lane / COLUMNS, my_gate = lane % 4, my_unit = first_unit + lane % COLUMNS / 4;
    const int my_first_gate = lane - my_gate, my_cell = my_unit - blockIdx.y * UNITS;
    const Wide my_bias = my_unit < H ? (Wide)bias[my_gate * H + my_unit] : (Wide)0;
    const Index start = reverse ? T : 0;
    for (Index row = my_row; row < rows; row += ROWS) {
        const bool there = first + row < last && my_unit < H;
        if (my_gate == 1)
            cells[row * UNITS + my_cell] =
                there ? (Wide)c[(start % places_of_c * B + first + row) * H + my_unit] : (Wide)0;
    }

    const auto is_mine = [=](Index place, Index t) {
        const Index b = first + place;
        return b < last && my_unit < H && is_going(lengths, b, t);
    };
    const auto my_gate_at = [=](Index place, Index t) {
        return gates + ((t * B + first + place) * 4 + my_gate) * H + my_unit;
    };
    // W·x as stored in memory: nothing waits for the load here.
    const auto my_net = [=](Index place, Index t) {
        return is_mine(place, t) ? *my_gate_at(place, t) : Real((Wide)0);
    };

    unsigned* counter = counters + blockIdx.z * COUNTER_STEP;
    Real fetched = Real((Wide)0);  // for the block's first sequences, loaded while waiting for other blocks
    if (T) fetched = my_net(my_row, reverse ? T - 1 : 0);
    for (Index step = 0; step < T; ++step) {
        const Index t = reverse ? T - 1 - step : step, before = t + reverse, after = t + 1 - reverse;
        Real* new_cells = c + after % places_of_c * B * H;
        for (Index chunk = 0; chunk < rows; chunk += staged_rows) {
            __syncthreads();
            stage(staged, h + before * B * H, first + chunk, last, (int)staged_rows);
            __syncthreads();
            for (Index row = 0; row < staged_rows && chunk + row < rows; row += ROWS) {
                const Index my_place = chunk + row + my_row, b = first + my_place;
                const bool there = b < last && my_unit < H, in_sequence = is_mine(my_place, t);
                const Real net = chunk + row ? my_net(my_place, t) : fetched;

                Wide sums[32] = {};
#pragma unroll
                for (int part = 0; part < PARTS; ++part)
#pragma unroll
                    for (int m = 0; m < ROWS; ++m) {
                        const Four of_h = load_four(staged + (row + m) * PADDED + part * 128 + lane * 4);
#pragma unroll
                        for (int k = 0; k < 4; ++k)
#pragma unroll
                            for (int column = 0; column < COLUMNS; ++column)
                                sums[m * COLUMNS + column] += of_h.at[k] * weights[part][k][column];
                    }
                const Wide total = sum_of_lanes(sums, lane) + ((Wide)net + my_bias);

                Wide* cell = cells + my_place * UNITS + my_cell;
                const Wide mine = my_gate == 2 ? tanh(total) : sigmoid(total), c_before = *cell;
                const Wide i = __shfl_sync(~0u, mine, my_first_gate), f = __shfl_sync(~0u, mine, my_first_gate + 1);
                const Wide g = __shfl_sync(~0u, mine, my_first_gate + 2), o = __shfl_sync(~0u, mine, my_first_gate + 3);
                const Wide new_c = in_sequence ? f * c_before + i * g : c_before;
                __syncwarp();  // all have read the cell
                if (!there) continue;
                if (in_sequence) *my_gate_at(my_place, t) = mine;
                if (my_gate == 0) {
                    const Wide h_before = staged[(row + my_row) * PADDED + my_unit];
                    const Wide new_h = in_sequence ? o * tanh(new_c) : h_before;
                    h[(after * B + b) * H + my_unit] = new_h;
                    if (lengths) out[(t * B + b) * H + my_unit] = in_sequence ? new_h : (Wide)0;
                }
                if (my_gate == 1) {
                    *cell = new_c;
                    new_cells[b * H + my_unit] = new_c;
                }
            }
        }
        if (step + 1 < T) {
            tell_others(counter);
            fetched = my_net(my_row, reverse ? t - 1 : t + 1);
            wait_for_others(counter, (unsigned)step + 1);
        }
    }
}

// -- backward ---------------------------------------------------------------------------------------------------------
// The gradients of a block's units need those of all gates of the next step. All threads of the block share these: four
// adjacent ones of each 1024. The results of the eight warps are summed by threads with one unit of a sequence each.

constexpr int ROWS_BACK = 32 / UNITS;
constexpr int PARTS_BACK = (4 * H + 1023) / 1024;

// For a unit of a sequence at a step: the saved values and the gradient of the output, as stored in memory.
struct Saved {
    Real i, f, g, o, c_before, c_after, g_out;
};

extern "C" __global__ void __launch_bounds__(32 * WARPS, 1)
persistent_lstm_backward(const Real* gates, const Real* weight_hh, const Real* c, const Real* g_out, Real* g_h,
                         Real* g_c, Real* g_net, const Index* lengths, unsigned* counters, Index T, Index B, Index rows,
                         Index reverse) {
    const int self = threadIdx.x, lane = self % 32, warp = self / 32;
    const Index first = blockIdx.z * rows, last = first + rows < B ? first + rows : B;
    const int first_unit = blockIdx.y * UNITS, size = (int)rows * UNITS;
    Wide* cells = shared<Wide>();      // (rows, UNITS), ∂L/∂c
    Wide* kept = cells + size;         // (rows, UNITS), the part of ∂L/∂h that does not come through the gates
    Wide* found = kept + size;         // (WARPS, rows, UNITS), each warp's part that does

    Wide weights[PARTS_BACK][4][UNITS];
#pragma unroll
    for (int part = 0; part < PARTS_BACK; ++part)
#pragma unroll
        for (int k = 0; k < 4; ++k)
#pragma unroll
            for (int u = 0; u < UNITS; ++u) {
                const int from = part * 1024 + self * 4 + k;
                const bool there = from < 4 * H && first_unit + u < H;
                weights[part][k][u] = there ? (Wide)weight_hh[(Index)from * H + first_unit + u] : (Wide)0;
            }

    for (int place = self; place < size; place += 32 * WARPS) {
        const Index b = first + place / UNITS, unit = first_unit + place % UNITS;
        const bool there = b < last && unit < H;
        cells[place] = there ? (Wide)g_c[b * H + unit] : (Wide)0;
        kept[place] = there ? (Wide)g_h[b * H + unit] : (Wide)0;
        for (int w = 0; w < WARPS; ++w) found[w * size + place] = 0;
    }

    const auto saved_at = [=](int place, Index t) {
        const Index b = first + place / UNITS, unit = first_unit + place % UNITS;
        Saved saved = {};
        if (b >= last || unit >= H || !is_going(lengths, b, t)) return saved;
        const Real* gate = gates + (t * B + b) * 4 * H + unit;
        saved.i = gate[0], saved.f = gate[H], saved.g = gate[2 * H], saved.o = gate[3 * H];
        saved.c_before = c[((t + reverse) * B + b) * H + unit], saved.c_after = c[((t + 1 - reverse) * B + b) * H + unit];
        saved.g_out = g_out[(t * B + b) * H + unit];
        return saved;
    };

    unsigned* counter = counters + blockIdx.z * COUNTER_STEP;
    Saved fetched = {};  // for the thread's first unit, loaded while waiting for other blocks
    if (T && self < size) fetched = saved_at(self, reverse ? 0 : T - 1);
    for (Index step = 0; step < T; ++step) {
        const Index t = reverse ? step : T - 1 - step;
        for (int place = self; place < size; place += 32 * WARPS) {
            const Index b = first + place / UNITS, unit = first_unit + place % UNITS;
            if (b >= last || unit >= H) continue;
            const Saved at = place == self ? fetched : saved_at(place, t);
            Wide dh = kept[place];
            for (int w = 0; w < WARPS; ++w) dh += found[w * size + place];
            Real* net = g_net + (t * B + b) * 4 * H + unit;
            if (!is_going(lengths, b, t)) {
                kept[place] = dh;
                net[0] = net[H] = net[2 * H] = net[3 * H] = (Wide)0;
                continue;
            }
            const Wide i = at.i, f = at.f, g = at.g, o = at.o, tanh_c = tanh((Wide)at.c_after);
            dh += (Wide)at.g_out;
            const Wide dc = cells[place] + dh * o * (1 - tanh_c * tanh_c);
            net[0] = dc * g * i * (1 - i);
            net[H] = dc * (Wide)at.c_before * f * (1 - f);
            net[2 * H] = dc * i * (1 - g * g);
            net[3 * H] = dh * tanh_c * o * (1 - o);
            cells[place] = dc * f;
            kept[place] = 0;
        }
        tell_others(counter);
        if (step + 1 < T && self < size) fetched = saved_at(self, reverse ? t + 1 : t - 1);
        wait_for_others(counter, (unsigned)step + 1);
        for (int row = 0; row < rows; row += ROWS_BACK) {
            Wide of_net[ROWS_BACK][PARTS_BACK][4] = {};
#pragma unroll
            for (int m = 0; m < ROWS_BACK; ++m)
#pragma unroll
                for (int part = 0; part < PARTS_BACK; ++part) {
                    const Index b = first + row + m;
                    const int from = part * 1024 + self * 4;
                    if (b < last && from < 4 * H) load_fresh(g_net + (t * B + b) * 4 * H + from, of_net[m][part]);
                }
            Wide sums[32] = {};
#pragma unroll
            for (int m = 0; m < ROWS_BACK; ++m)
#pragma unroll
                for (int part = 0; part < PARTS_BACK; ++part)
#pragma unroll
                    for (int k = 0; k < 4; ++k)
#pragma unroll
                        for (int u = 0; u < UNITS; ++u) sums[m * UNITS + u] += of_net[m][part][k] * weights[part][k][u];
            const Wide total = sum_of_lanes(sums, lane);
            found[warp * size + row * UNITS + lane] = total;
        }
        __syncthreads();
    }
    for (int place = self; place < size; place += 32 * WARPS) {
        const Index b = first + place / UNITS, unit = first_unit + place % UNITS;
        if (b >= last || unit >= H) continue;
        Wide dh = kept[place];
        for (int w = 0; w < WARPS; ++w) dh += found[w * size + place];
        g_h[b * H + unit] = dh;
        g_c[b * H + unit] = cells[place];
    }
}
