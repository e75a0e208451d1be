"""Keras models as modules, built by their config."""
