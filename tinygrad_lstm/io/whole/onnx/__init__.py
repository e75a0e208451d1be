"""ONNX graphs as modules."""
