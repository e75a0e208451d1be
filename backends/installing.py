"""How to install what is missing: the package is on no index, so that an extra comes from a checkout."""

__all__ = ["how_to_install"]


def how_to_install(extra: str) -> str:
    """The command that installs an extra, and where to run it."""
    return f"pip install '.[{extra}]' in a checkout of tinygrad_lstm"
