"""How to install missing extras. The package is not on an index, so an extra is installed from a checkout."""

__all__ = ["how_to_install"]


def how_to_install(extra: str) -> str:
    """The command that installs an extra, and the place to run it."""
    return f"pip install '.[{extra}]' in a checkout of tinygrad_lstm"
