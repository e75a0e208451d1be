"""Write the golden reference values: what PyTorch 2.13 computes, in this project's parameter layout.

    pip install torch==2.13.0 numpy safetensors        # in an environment of its own: the project does not need torch
    python tests/golden/make_golden.py                 # rewrites every *.safetensors beside it, bit for bit

Everything is float64 (class ids, lengths and indices int64). An array's key is `case/array`; each case's settings are JSON in
the file's metadata; `load.py` reads both. Each case seeds its own random numbers, so adding one changes no other.
Wherever there are gradients, `grad_<array>` is that of the scalar `sum(out * w_out)`, or for recurrent cases of
`sum(out * w_out) + sum(h_n * w_h) + sum(c_n * w_c)` (terms that the cell lacks are left out).

| file | cases | arrays in each case |
| --- | --- | --- |
| lstm | plain, bidirectional_lengths, batch_first | x h0 c0 [lengths] out h_n c_n w_out w_h w_c, weight_ih_l{k}[_reverse] weight_hh_l{k}[_reverse] bias_l{k}[_reverse]; grad_ of x, h0, c0 and every parameter |
| gru | the same | the same without c, and bias_hn_l{k}[_reverse] |
| rnn | the same | the same as lstm without c |
| variants | lstm_proj rnn_relu; lstm_peephole lstm_norm_cell lstm_norm_output lstm_all gru_reset_before | as lstm, gru and rnn; also [weight_hr_l{k}[_reverse]] [peephole_l0] [norm_ih_l0 norm_hh_l0 norm_c_l0 bias_c_l0], and no bias_hn |
| cells | lstm, gru, rnn | x h0 [c0] h_n [c_n] w_h [w_c], weight_ih weight_hh bias [bias_hn]; grad_ of x, h0, c0 and every parameter |
| traces | lstm, gru, rnn | x h0 [c0] w_out, weight_ih weight_hh bias [bias_hn]; of each step every gate and state, i f g o c h, r z n h or h, each (T, B, H); grad_ of these, `out` being the h |
| losses | {loss}[_{variant}]_{mean, sum, none} | input target [weight] [pos_weight] out w_out grad_input [grad_target] |
| ops | {op}[_{variant}] | input [other] [weight] [bias] out w_out; grad_ of each float input |
| ops_normalization | {op}_{number}, with drawn arguments | as ops; of batch_norm [running_mean running_var, and both with _after: after the call] |
| ops_first | {op}[_0d]_{number}, with drawn arguments | as ops; or none of the results, if refused |
| ops_losses | {op}_{number}, with drawn arguments | as ops |
| ops_padding ops_pooling ops_spectral | {op}_{number}, with drawn arguments | as ops; of refused cases the inputs only |
| ops_scattering | {op}_{number}, with drawn arguments | as ops; of refused cases the inputs only |
| ops_sorting | {op}_{number}, with drawn arguments | as ops; of refused cases the inputs only |
| ops_windows | {op}_{number}, with drawn arguments | as ops |
| ops_attention | {op}_{number}, with drawn arguments | as ops |
| multihead_attention | case_{k} | query [key value] [key_padding_mask] [attn_mask] out [weights], w_ of both, parameters under PyTorch's names; grad_ of query, key, value and parameters |
| ctc | case_{k} | x targets input_lengths target_lengths out w_out grad_x |
| optimizers | {optimizer}[_{variant}] | weight bias: initial values; {weight, bias}_grads, {weight, bias}_steps: the 20 gradients, and the values after each |
| long_runs | {optimizer}[_{variant}] | x y noise, weight bias: of the loss in torch_long_runs.py; {weight, bias}_steps: the values after steps 1, 10, 20, ... 100 |
| schedules | step exponential cosine warmup plateau plateau_max_abs | lr (31,): the rate at first and after each of 30 steps; [metric (30,)] |
| long_schedules | {schedule}[_{variant}] | lr (101, 2): the rates of two groups at first and after each of 100 steps; [momentum (101, 2)] |
| schedule_pairs | {first}+{second} of step exponential cosine warmup sequential plateau multi_step constant restarts | lr (31,): as above with two schedules, stepped in this order; after step 12 the rate is set by hand |
| averages | swa ema | average (11, 3, 2): of what torch_long_runs.py describes, after updates 1, 10, 20, ... 100 |
| clipping | norm_2 norm_inf norm_2_untouched value | before_{weight, bias} after_{weight, bias} [total_norm] |

Settings. lstm, gru, rnn: num_layers, bidirectional, batch_first. variants: kind, and the arguments of this project's network.
losses, ops: op, positional and keyword (arrays passed by place and
by name, in order), kwargs, [refused: whether PyTorch raises an error]. optimizers: class, given (the arguments that differ from torch's defaults), hyperparameters (all of
them). long_runs: class, given, second (the settings of the bias's group; of LBFGS none),
kept (steps). multihead_attention: made and options, the
arguments of the layer and of its call, and masks (their names). schedules: class, kwargs, lr (the initial rate). long_schedules: optimizer,
class, kwargs (decays: the functions of LambdaLR are 1 / (1 + decay * step)), lr (the initial rates). schedule_pairs: schedules (class and kwargs of each; of SequentialLR
milestones and the class and kwargs of each of its own), lr, metric (of every step), by_hand (step and rate). averages: [decay], kept (steps). clipping: function, kwargs.

Layouts. Torch's two bias vectors become one. LSTM and RNN: `bias` is their sum, and its gradient is that of either. GRU: `bias` is
the sum for the rows r and z and torch's b_in for n, and `bias_hn` is torch's b_hn, inside the reset gate's product.
Gate order: LSTM i, f, g, o; GRU r, z, n.
"""  # noqa: E501 (a table's row is one line)

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.numpy import save
from torch_attention import multihead_attention, ops_attention
from torch_cases import Arrays, Case, Settings
from torch_ctc import ctc
from torch_functions import losses, ops
from torch_long_runs import long_runs, long_schedules
from torch_ops_arrays import ops_arrays
from torch_ops_elementwise import ops_elementwise
from torch_ops_first import ops_first
from torch_ops_losses import ops_losses
from torch_ops_normalization import ops_normalization
from torch_ops_padding import ops_padding
from torch_ops_pooling import ops_pooling
from torch_ops_scattering import ops_scattering
from torch_ops_sorting import ops_sorting
from torch_ops_spectral import ops_spectral
from torch_ops_windows import ops_windows
from torch_optimizers import clipping, optimizers, schedule_pairs, schedules
from torch_recurrent import cells, recurrent_layers, traces, variants

FOLDER = Path(__file__).parent


def write(name: str, cases: Iterator[Case]) -> None:
    """Write one family's cases as `<name>.safetensors`, their settings as JSON in its metadata."""
    arrays: Arrays = {}
    options: dict[str, Settings] = {}
    for case, case_arrays, settings in cases:
        arrays |= {f"{case}/{key}": array for key, array in case_arrays.items()}
        options[case] = settings
    path = FOLDER / f"{name}.safetensors"
    # One metadata entry only: the file format does not fix the order of several.
    contents = {key: array.detach().contiguous().numpy() for key, array in arrays.items()}
    path.write_bytes(save(contents, metadata={"options": json.dumps(options)}))
    print(f"{path.name}: {len(options)} cases, {len(arrays)} arrays, {path.stat().st_size} bytes")


def main() -> None:
    """Write every file."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)  # sums in one order
    for name in ("lstm", "gru", "rnn"):
        write(name, recurrent_layers(name))
    families = (
        variants,
        cells,
        traces,
        losses,
        ctc,
        ops,
        ops_arrays,
        ops_attention,
        ops_elementwise,
        ops_first,
        ops_losses,
        ops_normalization,
        ops_padding,
        ops_pooling,
        ops_scattering,
        ops_sorting,
        ops_spectral,
        ops_windows,
        multihead_attention,
        optimizers,
        long_runs,
        schedules,
        long_schedules,
        schedule_pairs,
        clipping,
    )
    for family in families:
        write(family.__name__, family())


if __name__ == "__main__":
    main()
