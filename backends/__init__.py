"""The `Backend` protocol of a device, and its NumPy and CuPy implementations."""
