"""Recurrent networks from other frameworks' weights, and their weights under PyTorch's names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

from numpy.typing import ArrayLike

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import DType, promoted_dtype
from tinygrad_lstm.io.file_layers import file_network
from tinygrad_lstm.io.mapped import Joined, Roles, mapped_network
from tinygrad_lstm.io.recurrent import Recurrent
from tinygrad_lstm.io.tensorflow.cells import tensorflow_network
from tinygrad_lstm.io.torch.names import in_torch_names, own_arrays, torch_network
from tinygrad_lstm.io.weights import load_weights
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.nn import Module

__all__ = ["Loadable"]

Source: TypeAlias = str | Path | Mapping[str, HostArray]
A = TypeVar("A")
TorchSource: TypeAlias = str | Path | Mapping[str, ArrayLike]


class Loadable(Module):
    """Makes LSTM, GRU and RNN from the weights of PyTorch, Keras, an ONNX file, or any arrays.

    Sizes, layers, directions and variants are those of the arrays. The network is on the default device.
    """

    KIND: ClassVar[str]

    @classmethod
    def from_torch(
        cls,
        state_dict: TorchSource,
        prefix: str | Sequence[str] = "",
        *,
        gates: str | None = None,
        batch_first: bool = False,
        dropout: float = 0.0,
        dtype: DType = None,
        **options: Any,
    ) -> Self:
        """The network of arrays with PyTorch's names; its two biases are summed.

        Args:
            state_dict: arrays by name, as `load_weights` returns them, or PyTorch's tensors (bfloat16 as float32),
                or the path of a file. Weights that `torch.nn.utils.weight_norm`, `spectral_norm` or `prune` stores in
                parts are joined; other reparametrized weights raise an error that names them.
            prefix: the dotted name of the network, such as "encoder.lstm", with or without the `module` and `_orig_mod`
                of PyTorch's wrappers. Several prefixes make a stack, of cells for instance, whose names end in
                `weight_ih` without `_l0`.
            gates: the order of the gates' rows, if it differs from PyTorch's, such as "iofg". An LSTM's candidate is g
                or c, a GRU's n or h.
            batch_first, dropout: settings of the network.
            dtype: the network's dtype; by default that of the arrays.
            options: settings that the arrays do not show: `nonlinearity="relu"` of an RNN; `reset_after=False` of a GRU
                that is not PyTorch's; `layer_norm="cell"` or "output" of an LSTM with layer normalization (by default
                "cell" for a cell with `layernorm_i`, `layernorm_h`, `layernorm_c`); `activations`; `bias=False` (by
                default biases that are not among the arrays are zeros).

        Raises:
            ValueError: there is no network of this kind under the prefix; names are missing or extra, or shapes are
                invalid (one error lists all). And what `load_weights` raises for a path.

        >>> import numpy as np
        >>> from tinygrad_lstm.models import LSTM
        >>> arrays = {"rnn.weight_ih_l0": np.ones((20, 3)), "rnn.weight_hh_l0": np.ones((20, 5))}
        >>> LSTM.from_torch(arrays, prefix="rnn")
        LSTM(3, 5)      180 parameters
        """
        found = torch_network(
            cls.KIND, _arrays(f"{cls.KIND}.from_torch", state_dict), prefix, gates=gates, dtype=dtype, options=options
        )
        return cls.of_found(found, batch_first, dropout, dtype)

    @classmethod
    def from_arrays(
        cls,
        arrays: TorchSource,
        roles: Roles | Sequence[Roles],
        *,
        gates: str | None = None,
        joined: Joined | None = None,
        transposed: bool | Collection[str] | None = None,
        forget_bias: float = 0.0,
        batch_first: bool = False,
        dropout: float = 0.0,
        dtype: DType = None,
        **options: Any,
    ) -> Self:
        """The network of arrays under any names, in any layout.

        Args:
            arrays: arrays by name, or the path of a file.
            roles: the name of the array for each role, of one layer; or a list of such mappings, one for each layer.
                Roles are `weight_ih` (k·H, I), `weight_hh` (k·H, H) and `bias` (k·H,), or `bias_ih` and `bias_hh`, of a
                layer with k gates and H units; `weight` (k·H, I + H) in place of both weights; and the names of other
                parameters, such as `peephole`. A list of names has an array for each gate, in the order of `gates`.
                `weight_ih_f` is the array of one gate, `weight_rz` that of two. `bias_l1_reverse` is an array of the
                second layer and the backward direction. In names "{layer}" is replaced by 0, 1, ... or 1, 2, ...
            gates: the order of the gates' rows, such as "icfo"; by default PyTorch's. An LSTM's candidate is g or c, a
                GRU's n or h.
            joined: whether the columns of `weight` are those of the input, then of the hidden state, "xh", or "hx".
            transposed: whether the gates are in the columns of the weights, as in x·W, or the roles of which this is
                true. By default this is found from the shapes; square arrays are assumed to be like the others.
            forget_bias: a number that is added to the biases of the forget gates, as by TensorFlow when a model runs.
            batch_first, dropout: settings of the network.
            dtype: the network's dtype; by default that of the arrays.
            options: settings that the arrays do not show, as for `from_torch`.

        Raises:
            ValueError: roles or names are missing or unknown, or shapes are invalid (one error lists all); the shapes
                do not show what is transposed. And what `load_weights` raises for a path.

        >>> import numpy as np
        >>> from tinygrad_lstm.models import GRU, LSTM
        >>> arrays = {"W": np.ones((3, 20)), "U": np.ones((5, 20)), "b": np.ones(20)}
        >>> roles = {"weight_ih": "W", "weight_hh": "U", "bias": "b"}
        >>> LSTM.from_arrays(arrays, roles, gates="ifog", forget_bias=1.0)
        LSTM(3, 5)      180 parameters
        >>> arrays = {"gates/kernel": np.ones((8, 10)), "candidate/kernel": np.ones((8, 5))}
        >>> roles = {"weight_rz": "gates/kernel", "weight_n": "candidate/kernel"}
        >>> GRU.from_arrays(arrays, roles, joined="xh", reset_after=False)
        GRU(3, 5, reset_after=False)      135 parameters
        """
        found = mapped_network(
            cls.KIND,
            _arrays(f"{cls.KIND}.from_arrays", arrays),
            roles,
            gates=gates,
            joined=joined,
            transposed=transposed,
            forget_bias=forget_bias,
            dtype=dtype,
            options=options,
        )
        return cls.of_found(found, batch_first, dropout, dtype)

    @classmethod
    def from_keras(
        cls,
        weights: Source | Sequence[HostArray],
        prefix: str | Sequence[str] = "",
        *,
        batch_first: bool | None = None,
        dropout: float = 0.0,
        dtype: DType = None,
        reset_after: bool | None = None,
        nonlinearity: Literal["tanh", "relu"] | None = None,
        recurrent_activation: Literal["sigmoid", "hard_sigmoid"] | None = None,
    ) -> Self:
        """The network of a Keras layer, or of a stack of several; kernels are transposed and gates reordered.

        Pass `lengths` or a `mask` to the network in place of Keras' masks; `tg.io.load_model` does it itself.

        Args:
            weights: what `load_weights` returned, or the path of a `.keras` or `.h5` file; or one layer's arrays, as
                `layer.get_weights()` returns them.
            prefix: the layer's name in the model, or in the file or the beginning of it; a list makes a stack.
            batch_first: by default as in Keras: inputs and outputs are (B, T, ...).
            dropout: between the layers, in training.
            dtype: the network's dtype; by default that of the arrays.
            reset_after: for a GRU; by default from the file or the shape of the bias, if they determine it.
            nonlinearity: for an RNN; by default that of the file, or "tanh".
            recurrent_activation: for an LSTM or GRU; required if a file of Keras before 2.3 has only weights: its
                default was "hard_sigmoid". Arrays in memory are assumed to use the present default, "sigmoid".

        Raises:
            ValueError: the prefix has no layer, or more than one; the layer is of a different kind or not supported;
                arrays are missing or have invalid shapes. And what `load_weights` raises for a path.

        >>> import numpy as np
        >>> from tinygrad_lstm.models import LSTM
        >>> LSTM.from_keras([np.ones((3, 20)), np.ones((5, 20)), np.ones(20)])
        LSTM(3, 5, batch_first=True)      180 parameters
        """
        given = (
            weights
            if isinstance(weights, Sequence) and not isinstance(weights, str)
            else _arrays(f"{cls.KIND}.from_keras", weights)
        )
        found = file_network(
            cls.KIND,
            "keras",
            given,
            prefix,
            dtype,
            reset_after=reset_after,
            nonlinearity=nonlinearity,
            recurrent_activation=recurrent_activation,
        )
        return cls.of_found(found, batch_first, dropout, dtype)

    @classmethod
    def from_onnx(
        cls,
        weights: Source,
        prefix: str | Sequence[str] = "",
        *,
        batch_first: bool | None = None,
        dropout: float = 0.0,
        dtype: DType = None,
        reset_after: bool | None = None,
        nonlinearity: Literal["tanh", "relu"] | None = None,
    ) -> Self:
        """The network of an LSTM, GRU or RNN node of an ONNX file, or of a stack of several.

        Initial states and lengths that depend on the model's inputs are arguments of the network's call. Constant ones
        raise ValueError, except states of zeros and the lengths of all steps.

        Args:
            weights: what `load_weights` returned, or the path of the file; or a node's arrays W, R and, if it has them,
                B and P.
            prefix: the node's name, or the beginning of it; a list of them makes a stack.
            batch_first: by default the node's `layout`.
            dropout: between the layers, in training.
            dtype: the network's dtype; by default that of the arrays.
            reset_after: for a GRU, the node's `linear_before_reset`; by default that of the file, required for arrays.
            nonlinearity: for an RNN; by default that of the file, or "tanh".

        Raises:
            ValueError: as `from_keras`.

        >>> import numpy as np
        >>> from tinygrad_lstm.models import GRU
        >>> GRU.from_onnx({"W": np.ones((2, 15, 3)), "R": np.ones((2, 15, 5))}, reset_after=False)
        GRU(3, 5, bidirectional=True, reset_after=False)      270 parameters
        """
        found = file_network(
            cls.KIND,
            "onnx",
            _arrays(f"{cls.KIND}.from_onnx", weights),
            prefix,
            dtype,
            reset_after=reset_after,
            nonlinearity=nonlinearity,
        )
        return cls.of_found(found, batch_first, dropout, dtype)

    @classmethod
    def from_tensorflow(
        cls,
        weights: Source,
        prefix: str | Sequence[str] = "",
        *,
        forget_bias: float | None = None,
        batch_first: bool = False,
        dropout: float = 0.0,
        dtype: DType = None,
        **options: Any,
    ) -> Self:
        """The network of a cell of TensorFlow 1, or of several: BasicLSTMCell, LSTMCell, LSTMBlockCell, GRUCell, ...

        Their kernels are over [x, h]; `from_keras` is for the layers of Keras.

        Args:
            weights: what `load_weights` returned, or the path of a checkpoint or SavedModel.
            prefix: what the cell's name begins with, such as "rnn/basic_lstm_cell"; by default all cells are used. The
                cells of a MultiRNNCell become layers, those of a bidirectional network directions; a list has the
                prefix of each layer.
            forget_bias: of an LSTM: the number that TensorFlow adds to the forget gates' biases when it runs the model.
                The file does not have it; by default it is 1.0, as in TensorFlow.
            batch_first, dropout: settings of the network.
            dtype: the network's dtype; by default that of the arrays.
            options: settings that the arrays do not show, such as `activations`.

        Raises:
            ValueError: the prefix has no cell of this kind, or several that are not layers of one network; shapes are
                invalid. And what `load_weights` raises for a path.

        >>> import numpy as np
        >>> from tinygrad_lstm.models import LSTM
        >>> arrays = {"rnn/basic_lstm_cell/kernel": np.ones((8, 20)), "rnn/basic_lstm_cell/bias": np.ones(20)}
        >>> LSTM.from_tensorflow(arrays, "rnn")
        LSTM(3, 5)      180 parameters
        """
        found = tensorflow_network(
            cls.KIND,
            _arrays(f"{cls.KIND}.from_tensorflow", weights),
            prefix,
            forget_bias=forget_bias,
            dtype=dtype,
            options=options,
        )
        return cls.of_found(found, batch_first, dropout, dtype)

    def to_torch(self) -> dict[str, HostArray]:
        """The parameters under PyTorch's names; see `tinygrad_lstm.io.to_torch`, which takes a whole model.

        Raises:
            ValueError: a GRU with `reset_after=False`, or activations that PyTorch does not have.
        """
        if not getattr(self, "reset_after", True):
            raise ValueError("GRU.to_torch: PyTorch has no GRU with the reset gate before the product")
        activations, usual = getattr(self, "activations", ()), KINDS[self.KIND].onnx_activations
        if activations not in ((), usual, ("relu",)):
            raise ValueError(f"{self.KIND}.to_torch: PyTorch has no {self.KIND} with the activations {activations}")
        return in_torch_names(self.KIND, own_arrays(self))

    @classmethod
    def of_found(
        cls, found: Recurrent, batch_first: bool | None = None, dropout: float = 0.0, dtype: DType = None
    ) -> Self:
        """The network of settings and parameters that were found in a file."""
        make: Callable[..., Self] = cls
        made = make(
            found.input_size,
            found.hidden_size,
            found.num_layers,
            batch_first=found.batch_first if batch_first is None else batch_first,
            dropout=dropout,
            bidirectional=found.bidirectional,
            **found.options,
        )
        made.to(dtype=promoted_dtype(array.dtype for array in found.parameters.values()) if dtype is None else dtype)
        parameters = dict(found.parameters)
        if not found.options.get("bias", True):
            biases = {name: parameters.pop(name) for name in found.parameters if name.startswith("bias")}
            if present := [name for name, array in biases.items() if array.any()]:
                raise ValueError(f"{cls.KIND}: bias=False is given, but the arrays have {', '.join(present)}")
        made.load_state_dict(parameters)
        return made


def _arrays(who: str, source: str | Path | Mapping[str, A]) -> Mapping[str, A | HostArray]:
    if not isinstance(source, str | Path | Mapping):
        raise TypeError(
            f"{who}: expected a file's path, or arrays by name such as a module's state_dict(), got a "
            f"{type(source).__name__}"
        )
    return load_weights(source) if isinstance(source, str | Path) else source
