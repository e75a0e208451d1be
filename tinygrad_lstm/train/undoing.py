"""Changes that an error undoes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

__all__ = ["undone_by_errors"]


@contextmanager
def undone_by_errors(
    run: object, names: Sequence[str], stateful: Sequence[Any], groups: Sequence[dict[str, Any]]
) -> Iterator[None]:
    """An error within this context, such as a full disk, undoes the changes made in it.

    Args:
        run: an object.
        names: its attributes that may be replaced.
        stateful: objects with `state_dict` and `load_state_dict`.
        groups: an optimizer's, whose learning rates may change.
    """
    attributes: Mapping[str, Any] = {name: getattr(run, name) for name in names}
    states = [deepcopy(each.state_dict()) for each in stateful]
    rates = [group["lr"] for group in groups]
    try:
        yield
    except BaseException:
        for name, value in attributes.items():
            setattr(run, name, value)
        for each, state in zip(stateful, states, strict=True):
            each.load_state_dict(state)
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        raise
