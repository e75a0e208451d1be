"""Golden cases of losses and other ops, as PyTorch computes them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch_cases import TIME, Arrays, Case, Settings, called, seed

Draw = Callable[[], Tensor]


@dataclass(frozen=True)
class Call:
    """One call of `op`: its arrays by place and by name, its other arguments, and what to differentiate (in `grad`)."""

    op: str
    positional: dict[str, Draw]
    kwargs: Settings = field(default_factory=dict)
    keyword: dict[str, Draw] = field(default_factory=dict)
    grad: tuple[str, ...] = ("input",)

    def run(self, **more: Any) -> tuple[Arrays, Settings]:
        """The call's arrays and settings; `more` are further arguments that are not arrays."""
        positional = {name: draw() for name, draw in self.positional.items()}
        keyword = {name: draw() for name, draw in self.keyword.items()}
        constant = (positional | keyword).keys() - set(self.grad)
        return called(self.op, positional, self.kwargs | more, keyword, constant=constant)


def normal(*shape: int, scale: float = 1.0) -> Draw:
    """Normal numbers."""
    return lambda: scale * torch.randn(shape)


def positive(*shape: int) -> Draw:
    """Numbers in [0.2, 2.2), for class weights."""
    return lambda: 0.2 + 2.0 * torch.rand(shape)


def unit(*shape: int) -> Draw:
    """Numbers in [0, 1)."""
    return lambda: torch.rand(shape)


def log_probabilities(*shape: int) -> Draw:
    """Logarithms of probabilities over dimension 1."""
    return lambda: torch.log_softmax(torch.randn(shape), dim=1)


def probabilities(*shape: int) -> Draw:
    """Probabilities over dimension 1."""
    return lambda: torch.softmax(torch.randn(shape), dim=1)


def classes(*shape: int, ignored: int | None = None) -> Draw:
    """Class ids below CLASSES; with `ignored`, every third of them is that id."""

    def draw() -> Tensor:
        ids = torch.randint(CLASSES, shape)
        if ignored is not None:
            ids.view(-1)[::3] = ignored
        return ids

    return draw


def values(*numbers: float) -> Draw:
    """The numbers given."""
    return lambda: torch.tensor(numbers, dtype=torch.float64)


def indices(rows: list[list[int]]) -> Draw:
    """The indices given."""
    return lambda: torch.tensor(rows)


N, CLASSES = 6, 5
LOGITS, LOG_PROBS = normal(N, CLASSES), log_probabilities(N, CLASSES)
IDS, IDS_IGNORED = classes(N), classes(N, ignored=-100)
CLASS_WEIGHT = {"weight": positive(CLASSES)}
LOGITS_3D, LOG_PROBS_3D = normal(N, CLASSES, TIME), log_probabilities(N, CLASSES, TIME)
IDS_3D, IDS_3D_IGNORED = classes(N, TIME), classes(N, TIME, ignored=-100)
BOTH = ("input", "target")
PAIR = {"input": normal(N, 4, scale=1.5), "target": normal(N, 4)}
SOFT = {"input": LOGITS, "target": probabilities(N, CLASSES)}
BINARY = {"input": normal(N, 4, scale=3.0), "target": unit(N, 4)}
POS_WEIGHT = {"pos_weight": positive(4)}

LOSS_CASES: dict[str, Call] = {
    "cross_entropy": Call("cross_entropy", {"input": LOGITS, "target": IDS}),
    "cross_entropy_ignore": Call("cross_entropy", {"input": LOGITS, "target": IDS_IGNORED}),
    "cross_entropy_ignore_class_2": Call(
        "cross_entropy", {"input": LOGITS, "target": classes(N, ignored=2)}, {"ignore_index": 2}
    ),
    "cross_entropy_smoothing": Call("cross_entropy", {"input": LOGITS, "target": IDS}, {"label_smoothing": 0.1}),
    "cross_entropy_weight": Call("cross_entropy", {"input": LOGITS, "target": IDS}, {}, CLASS_WEIGHT),
    "cross_entropy_weight_smoothing_ignore": Call(
        "cross_entropy",
        {"input": LOGITS, "target": IDS_IGNORED},
        {"ignore_index": -100, "label_smoothing": 0.1},
        CLASS_WEIGHT,
    ),
    "cross_entropy_probabilities": Call("cross_entropy", SOFT, grad=BOTH),
    "cross_entropy_probabilities_weight_smoothing": Call(
        "cross_entropy", SOFT, {"label_smoothing": 0.1}, CLASS_WEIGHT, grad=BOTH
    ),
    "cross_entropy_3d": Call("cross_entropy", {"input": LOGITS_3D, "target": IDS_3D}),
    "cross_entropy_3d_weight_smoothing_ignore": Call(
        "cross_entropy", {"input": LOGITS_3D, "target": IDS_3D_IGNORED}, {"label_smoothing": 0.1}, CLASS_WEIGHT
    ),
    "cross_entropy_3d_probabilities": Call(
        "cross_entropy", {"input": LOGITS_3D, "target": probabilities(N, CLASSES, TIME)}, grad=BOTH
    ),
    "nll": Call("nll_loss", {"input": LOG_PROBS, "target": IDS}),
    "nll_ignore": Call("nll_loss", {"input": LOG_PROBS, "target": IDS_IGNORED}),
    "nll_weight": Call("nll_loss", {"input": LOG_PROBS, "target": IDS}, {}, CLASS_WEIGHT),
    "nll_weight_ignore": Call("nll_loss", {"input": LOG_PROBS, "target": IDS_IGNORED}, {}, CLASS_WEIGHT),
    "nll_3d_weight_ignore": Call("nll_loss", {"input": LOG_PROBS_3D, "target": IDS_3D_IGNORED}, {}, CLASS_WEIGHT),
    "mse": Call("mse_loss", PAIR, grad=BOTH),
    "l1": Call("l1_loss", PAIR, grad=BOTH),
    "smooth_l1": Call("smooth_l1_loss", PAIR, {"beta": 1.0}, grad=BOTH),
    "smooth_l1_beta_half": Call("smooth_l1_loss", PAIR, {"beta": 0.5}, grad=BOTH),
    "bce_logits": Call("binary_cross_entropy_with_logits", BINARY, grad=BOTH),
    "bce_logits_weight": Call("binary_cross_entropy_with_logits", BINARY, {}, {"weight": positive(N, 4)}, grad=BOTH),
    "bce_logits_pos_weight": Call("binary_cross_entropy_with_logits", BINARY, {}, POS_WEIGHT, grad=BOTH),
    "bce_logits_weight_pos_weight": Call(
        "binary_cross_entropy_with_logits", BINARY, {}, {"weight": positive(N, 4)} | POS_WEIGHT, grad=BOTH
    ),
}

X = {"input": normal(3, 4, scale=2.0)}
CUBE = {"input": normal(2, 3, 4)}
AFFINE = ("input", "weight", "bias")
# The first and last numbers lie where softplus and elu go over to their asymptotes.
WIDE = {"input": values(-30.0, -5.0, -1.5, -0.25, 0.0, 0.25, 1.5, 5.0, 19.0, 21.0, 30.0)}
AT_BOUNDS = {"input": values(-7.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0, 7.0)}
PAIR_OF_WIDE = WIDE | {"other": values(-30.0, 4.0, -1.5, 2.5, 1e-3, 0.5, -2.0, 5.0, 300.0, 20.0, -30.0)}
ON_AXES = {"input": values(0.0, 0.0, 0.0, 2.0, -2.0, 1e-9), "other": values(1.0, -1.0, 0.0, 0.0, -3.0, 1e9)}
INF, NAN = float("inf"), float("nan")
DIVIDED = {"input": values(5.0, -5.0, 5.0, -5.0, 7.5, -1.0, 6.0), "other": values(3.0, 3.0, -3.0, -3.0, -2.5, INF, 4.0)}
NOT_FINITE = {"input": values(-INF, -1.0, NAN, 2.0, INF)}
TOKENS = indices([[1, 0, 3, 1], [2, 1, 0, 5]])


def conv1d(channels: int, filters: int, **kwargs: int) -> Call:
    """A convolution of width 3 over 9 steps, with its bias."""
    weight = normal(filters, channels // kwargs.get("groups", 1), 3)
    return Call(
        "conv1d", {"input": normal(2, channels, 9), "weight": weight, "bias": normal(filters)}, kwargs, {}, AFFINE
    )


OP_CASES: dict[str, Call] = {
    "gelu": Call("gelu", WIDE),
    "gelu_tanh": Call("gelu", WIDE, {"approximate": "tanh"}),
    "softplus": Call("softplus", WIDE),
    "softplus_beta_threshold": Call("softplus", WIDE, {"beta": 2.5, "threshold": 4.0}),
    "silu": Call("silu", WIDE),
    "elu": Call("elu", WIDE),
    "elu_alpha": Call("elu", WIDE, {"alpha": 0.5}),
    "leaky_relu": Call("leaky_relu", WIDE),
    "leaky_relu_slope": Call("leaky_relu", WIDE, {"negative_slope": 0.2}),
    "hardtanh": Call("hardtanh", AT_BOUNDS),
    "hardtanh_bounds": Call("hardtanh", WIDE, {"min_val": -0.25, "max_val": 5.0}),
    "relu6": Call("relu6", AT_BOUNDS),
    "softsign": Call("softsign", WIDE),
    "mish": Call("mish", WIDE),
    "selu": Call("selu", WIDE),
    "prelu": Call("prelu", WIDE | {"weight": values(0.3)}, grad=("input", "weight")),
    "prelu_channels": Call("prelu", CUBE | {"weight": normal(3)}, grad=("input", "weight")),
    "glu": Call("glu", X),
    "glu_dim": Call("glu", {"input": normal(4, 3)}, {"dim": 0}),
    "logaddexp": Call("logaddexp", PAIR_OF_WIDE, grad=("input", "other")),
    "atan2": Call("atan2", ON_AXES, grad=("input", "other")),
    "hypot": Call("hypot", PAIR_OF_WIDE, grad=("input", "other")),
    "remainder": Call("remainder", DIVIDED, grad=("input", "other")),
    "nan_to_num": Call("nan_to_num", NOT_FINITE, {"nan": 0.5, "posinf": 4.0, "neginf": None}),
    "clamp": Call("clamp", X, {"min": -1.0, "max": 1.5}),
    "clamp_min": Call("clamp", X, {"min": 0.5}),
    "clamp_at_bounds": Call("clamp", {"input": values(-2.0, -1.0, 0.0, 1.0, 2.0)}, {"min": -1.0, "max": 1.0}),
    "layer_norm": Call("layer_norm", CUBE, {"normalized_shape": [4]}),
    "layer_norm_affine": Call(
        "layer_norm", CUBE, {"normalized_shape": [4]}, {"weight": normal(4), "bias": normal(4)}, AFFINE
    ),
    "layer_norm_affine_2d": Call(
        "layer_norm",
        CUBE,
        {"normalized_shape": [3, 4], "eps": 1e-3},
        {"weight": normal(3, 4), "bias": normal(3, 4)},
        AFFINE,
    ),
    "conv1d": conv1d(3, 4),
    "conv1d_stride": conv1d(3, 4, stride=2),
    "conv1d_padding": conv1d(3, 4, padding=2),
    "conv1d_dilation": conv1d(3, 4, dilation=3),
    "conv1d_groups": conv1d(4, 6, groups=2),
    "conv1d_depthwise": conv1d(4, 4, groups=4, padding=1),
    "conv1d_all": conv1d(4, 6, stride=2, padding=3, dilation=2, groups=2),
    "conv1d_no_bias": Call("conv1d", {"input": normal(2, 3, 9), "weight": normal(4, 3, 2)}, grad=("input", "weight")),
    "var": Call("var", X),
    "var_dim": Call("var", X, {"dim": 1, "correction": 1}),
    "var_population": Call("var", X, {"dim": 0, "correction": 0, "keepdim": True}),
    "std": Call("std", X),
    "std_dim": Call("std", X, {"dim": 1, "correction": 1}),
    "std_population": Call("std", X, {"dim": 0, "correction": 0, "keepdim": True}),
    "norm_1": Call("norm", X, {"p": 1.0}),
    "norm_2": Call("norm", X, {"p": 2.0}),
    "norm_inf": Call("norm", X, {"p": float("inf")}),
    "norm_1_dim": Call("norm", X, {"p": 1.0, "dim": 1}),
    "norm_2_dim": Call("norm", X, {"p": 2.0, "dim": 0, "keepdim": True}),
    "norm_inf_dim": Call("norm", X, {"p": float("inf"), "dim": 1}),
    "norm_2_zero": Call("norm", {"input": values(0.0, 0.0, 0.0)}, {"p": 2.0}),
    "prod": Call("prod", X),
    "prod_dim": Call("prod", X, {"dim": 1}),
    "prod_one_zero": Call("prod", {"input": values(2.0, 0.0, -3.0, 0.5)}),
    "prod_two_zeros": Call("prod", {"input": values(2.0, 0.0, -3.0, 0.0)}),
    "prod_one_zero_dim": Call("prod", {"input": lambda: torch.tensor([[2.0, 0.0, -3.0], [4.0, 0.5, 1.5]])}, {"dim": 1}),
    "logsumexp": Call("logsumexp", X, {"dim": 1}),
    "logsumexp_dims": Call("logsumexp", CUBE, {"dim": [0, 2], "keepdim": True}),
    "logsumexp_large": Call("logsumexp", {"input": values(1e4, 1e4 - 1.0, -1e4)}, {"dim": 0}),
    "cumsum": Call("cumsum", CUBE, {"dim": 1}),
    "cumsum_last": Call("cumsum", CUBE, {"dim": -1}),
    "embedding": Call("embedding", {"input": TOKENS, "weight": normal(6, 3)}, grad=("weight",)),
    "embedding_padding_idx": Call(
        "embedding", {"input": TOKENS, "weight": normal(6, 3)}, {"padding_idx": 1}, grad=("weight",)
    ),
}


def losses() -> Iterator[Case]:
    """Every loss with every reduction."""
    for loss, call in LOSS_CASES.items():
        for reduction in ("mean", "sum", "none"):
            case = f"{loss}_{reduction}"
            seed("losses", case)
            yield case, *call.run(reduction=reduction)


def ops() -> Iterator[Case]:
    """The ops that have conventions of their own."""
    for case, call in OP_CASES.items():
        seed("ops", case)
        yield case, *call.run()
