"""The padding that Keras, TensorFlow and ONNX call "same"."""

__all__ = ["same_padding"]


def same_padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """The zeros before and after a dimension with which windows of this size return length / stride, rounded up.

    Of an odd number of zeros there is one more after it.
    """
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2
