"""ONNX files: read, and written by running a model."""
