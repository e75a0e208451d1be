"""Tracing of one run of a model: what it needs from tensors and ops."""
