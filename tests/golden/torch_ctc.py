"""Golden cases of the CTC loss, as PyTorch computes it after `log_softmax`."""

from collections.abc import Iterator

import torch
from torch.nn import functional
from torch_cases import Arrays, Case, Settings, gradients, seed

CASES = 24


def ctc() -> Iterator[Case]:
    """The file `ctc.safetensors`: drawn shapes, lengths, blanks and settings; losses are finite or become zero."""
    for k in range(CASES):
        case = f"case_{k}"
        seed("ctc", case)
        yield case, *_case()


def _case() -> tuple[Arrays, Settings]:
    def draw(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high + 1, shape)

    N, C, S = (int(draw(1, most)) for most in (3, 5, 4))
    C += 1
    target_lengths = draw(0, S, N)
    input_lengths = 2 * target_lengths + draw(0, 3, N)
    input_lengths[input_lengths == 0] = 1
    T, blank = int(input_lengths.max()) + int(draw(0, 1)), int(draw(0, C - 1))
    targets = draw(0, C - 2, N, S)
    targets += targets >= blank
    settings: Settings = {"blank": blank, "reduction": ["mean", "sum", "none"][int(draw(0, 2))], "zero_infinity": True}
    if draw(0, 1):
        targets = torch.cat([row[:length] for row, length in zip(targets, target_lengths, strict=True)])
    elif draw(0, 1):
        input_lengths = draw(1, T, N)  # some are too short
    x = (3 * torch.randn(T, N, C)).requires_grad_()
    lengths = tuple(input_lengths.tolist()), tuple(target_lengths.tolist())
    out = functional.ctc_loss(x.log_softmax(-1), targets, *lengths, **settings)
    w_out = torch.randn_like(out)
    arrays = {"x": x, "targets": targets, "input_lengths": input_lengths, "target_lengths": target_lengths}
    return arrays | {"out": out, "w_out": w_out} | gradients((out * w_out).sum(), {"x": x}), settings
