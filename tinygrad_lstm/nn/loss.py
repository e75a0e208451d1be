"""Losses as modules: each calls the op of its name with its settings. Class weights are buffers."""

from typing import Any, ClassVar

from .. import ops
from .._tensor import Tensor, as_tensor
from .op_module import OpModule

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CosineEmbeddingLoss",
    "CosineSimilarity",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "MarginRankingLoss",
    "NLLLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "TripletMarginLoss",
]


class Loss(OpModule):
    """A function of inputs and targets."""

    settings: ClassVar[tuple[str, ...]] = ("reduction",)

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, input: Tensor, *others: Any) -> Any:
        return self.called("input", input, *others)

    def _keep_weight(self, name: str, weight: Any) -> None:
        """Registers a weight as a buffer, if there is one."""
        if weight is None:
            setattr(self, name, None)
        else:
            self.register_buffer(name, as_tensor(weight).detach())


class MSELoss(Loss):
    """`mse_loss` of (input, target)."""

    function = staticmethod(ops.mse_loss)


class L1Loss(Loss):
    """`l1_loss` of (input, target)."""

    function = staticmethod(ops.l1_loss)


class SmoothL1Loss(Loss):
    """`smooth_l1_loss` of (input, target)."""

    function = staticmethod(ops.smooth_l1_loss)
    settings = ("reduction", "beta")

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta


class HuberLoss(Loss):
    """`huber_loss` of (input, target)."""

    function = staticmethod(ops.huber_loss)
    settings = ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta


class CrossEntropyLoss(Loss):
    """`cross_entropy` of (input, target). Buffer: `weight` (C,), if it is given."""

    function = staticmethod(ops.cross_entropy)
    settings = ("ignore_index", "reduction", "label_smoothing")
    hidden = ("weight",)

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__(reduction)
        self._keep_weight("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing


class NLLLoss(Loss):
    """`nll_loss` of (input, target). Buffer: `weight` (C,), if it is given."""

    function = staticmethod(ops.nll_loss)
    settings = ("ignore_index", "reduction")
    hidden = ("weight",)

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._keep_weight("weight", weight)
        self.ignore_index = ignore_index


class BCELoss(Loss):
    """`binary_cross_entropy` of (input, target). Buffer: `weight`, if it is given."""

    function = staticmethod(ops.binary_cross_entropy)
    hidden = ("weight",)

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._keep_weight("weight", weight)


class BCEWithLogitsLoss(Loss):
    """`binary_cross_entropy_with_logits` of (input, target). Buffers: `weight` and `pos_weight`, if they are given."""

    function = staticmethod(ops.binary_cross_entropy_with_logits)
    hidden = ("weight", "pos_weight")

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction)
        self._keep_weight("weight", weight)
        self._keep_weight("pos_weight", pos_weight)


class KLDivLoss(Loss):
    """`kl_div` of (input, target)."""

    function = staticmethod(ops.kl_div)
    settings = ("reduction", "log_target")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target


class GaussianNLLLoss(Loss):
    """`gaussian_nll_loss` of (input, target, var)."""

    function = staticmethod(ops.gaussian_nll_loss)
    settings = ("full", "eps", "reduction")

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.full = full
        self.eps = eps


class CTCLoss(Loss):
    """`ctc_loss` of (log_probs, targets, input_lengths, target_lengths)."""

    function = staticmethod(ops.ctc_loss)
    settings = ("blank", "reduction", "zero_infinity")

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction)
        self.blank = blank
        self.zero_infinity = zero_infinity


class CosineSimilarity(Loss):
    """`cosine_similarity` of (x1, x2)."""

    function = staticmethod(ops.cosine_similarity)
    settings = ("dim", "eps")

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        self.dim = dim
        self.eps = eps


class _MarginLoss(Loss):
    settings: ClassVar[tuple[str, ...]] = ("margin", "reduction")

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin


class CosineEmbeddingLoss(_MarginLoss):
    """`cosine_embedding_loss` of (input1, input2, target)."""

    function = staticmethod(ops.cosine_embedding_loss)


class MarginRankingLoss(_MarginLoss):
    """`margin_ranking_loss` of (input1, input2, target)."""

    function = staticmethod(ops.margin_ranking_loss)


class HingeEmbeddingLoss(_MarginLoss):
    """`hinge_embedding_loss` of (input, target)."""

    function = staticmethod(ops.hinge_embedding_loss)

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(margin, reduction)


class SoftMarginLoss(Loss):
    """`soft_margin_loss` of (input, target)."""

    function = staticmethod(ops.soft_margin_loss)


class TripletMarginLoss(_MarginLoss):
    """`triplet_margin_loss` of (anchor, positive, negative)."""

    function = staticmethod(ops.triplet_margin_loss)
    settings = ("margin", "p", "eps", "swap", "reduction")

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__(margin, reduction)
        self.p = p
        self.eps = eps
        self.swap = swap
