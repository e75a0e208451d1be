"""Whole models from files."""

from collections.abc import Mapping
from pathlib import Path

from ..nn import Module
from .checkpoint import is_checkpoint
from .formats import find_format

__all__ = ["load_model"]


def load_model(path: str | Path, states: Mapping[str, str] | None = None) -> Module:
    """A model from a file, built from its layers and ops without the framework that wrote it.

    Nothing in the file is executed. The model can be trained, traced, streamed and exported. It is on the default
    device, in evaluation mode.

    Args:
        path: an ONNX file (extra "onnx"); a Keras model, `.keras` or `.h5`; a SavedModel's folder, a frozen graph of
            TensorFlow, or the `model.json` of TensorFlow.js; a checkpoint that `tinygrad-lstm train` wrote, which
            becomes a `CharLM`, or the file of an estimator, of which it returns the network; a TorchScript archive or
            `.pt2`; or a file of `torch.save(model)`, in which a module of a user-defined class has its layers but no
            forward.
        states: the inputs that are states, each with the output that is the state afterwards, as in
            `{"h0": "hn"}`. By default they are paired by name and shape.

    Raises:
        OSError: the file is not there or cannot be read.
        RuntimeError: the format needs an extra that is not installed.
        ValueError: the format is not supported or has no whole model; the model has layers or ops that are not there
            (one error names all); or the file is cut off, damaged, or hostile.
    """
    path = Path(path)
    match find_format(path):
        case "ONNX":
            from .models.onnx.building import model_of

            return model_of(path, states)
        case "Keras":
            from .models.keras.building import model_of as model_of_keras

            return model_of_keras(path, states)
        case "SavedModel":
            from .models.tensorflow.saved_model import model_of as model_of_saved_model

            return model_of_saved_model(path, states)
        case "TensorFlow graph":
            from .models.tensorflow.frozen import model_of as model_of_frozen

            return model_of_frozen(path, states)
        case "TensorFlow.js":
            from .models.tensorflow.tfjs import model_of as model_of_tfjs

            return model_of_tfjs(path, states)
        case "safetensors" if is_checkpoint(path):
            from .models.checkpoint import model_of as model_of_checkpoint

            if states:
                raise ValueError(f"{path}: a CharLM knows its states; leave out states=")
            return model_of_checkpoint(path)
        case "PyTorch":
            from .models.torch.loading import torch_model

            return torch_model(path, states)
        case "PyTorch export":
            from .models.torch.export import export_model

            return export_model(path, states)
        case "PyTorch before 1.6":
            from .models.torch.loading import torch_legacy_model

            return torch_legacy_model(path, states)
        case _:
            raise ValueError(f"{path}: it has only arrays; tg.io.load_weights reads them")
