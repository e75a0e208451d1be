"""What a device can do: the `Backend` protocol, and its NumPy and CuPy implementations."""
