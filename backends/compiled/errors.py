"""The error of a library that cannot be built."""


class BuildError(RuntimeError):
    """A library cannot be built here; the message says why in one line."""
