"""The arrays of a Keras file, by the paths that Keras 3 gives them, whatever the file's layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tinygrad_lstm.backends.base import HostArray

from ...errors import ContentError, shown
from ...keras.file import KerasFile
from ...keras.hdf5 import Hdf5Contents
from ...keras.layers import GENERATORS, OPTIMIZERS, counted_once, listed_names
from .spec import Slot

__all__ = ["arrays_of", "check_arrays"]

_MOST_NAMED = 8


def arrays_of(file: KerasFile, slots: Mapping[str, list[Slot]]) -> dict[str, HostArray]:
    """The arrays of a model by the paths of its slots. Each array of the file is used once.

    Args:
        slots: the arrays that the model needs, for each of its outermost layers.

    Raises:
        ContentError: arrays are missing, or there are more (one error names all).
    """
    root = "model_weights" if "model_weights" in file.contents.strings else ""
    if listed_names(file.contents.strings[root], "layer_names"):
        return dict(_by_order(file.contents, root, slots))
    return _by_path(file.contents, [slot for each in slots.values() for slot in each])


def _by_path(contents: Hdf5Contents, slots: list[Slot]) -> dict[str, HostArray]:
    there = {
        counted_once(name).replace("/_", "/"): array  # Keras 2 has "_query_dense" for the later "query_dense"
        for name, array in contents.arrays.items()
        if name.split("/", 1)[0] not in OPTIMIZERS and not GENERATORS.fullmatch(name)
    }
    paths = {slot.path: slot for slot in slots}
    check_arrays(
        [f"{shown(path)} ({slot.role})" for path, slot in paths.items() if path not in there],
        [shown(name) for name in there if name not in paths],
    )
    return {path: there[path] for path in paths}


def _by_order(contents: Hdf5Contents, root: str, slots: Mapping[str, list[Slot]]) -> Iterator[tuple[str, HostArray]]:
    """Older files list the arrays of each outermost layer, in the order of its weights."""
    missing, extra = [], []
    groups = listed_names(contents.strings[root], "layer_names")
    for name in dict.fromkeys([*slots, *groups]):
        group = f"{root}/{name}".removeprefix("/")
        given = listed_names(contents.strings.get(group, {}), "weight_names")
        paths = [f"{group}/{each}" for each in given]
        wanted = slots.get(name, [])
        fits = [_role(path) in slot.roles for path, slot in zip(paths, wanted, strict=False)]
        if len(paths) != len(wanted) or not all(fits):
            have = [f"{shown(name)}: {slot.role}" for slot in wanted]
            missing += [each for each, fit in zip(have, fits, strict=False) if not fit] + have[len(paths) :]
            extra += [shown(path) for path, fit in zip(paths, fits, strict=False) if not fit]
            extra += [shown(path) for path in paths[len(wanted) :]]
            continue
        for slot, path in zip(wanted, paths, strict=True):
            if path not in contents.arrays:
                missing.append(shown(path))
                continue
            yield slot.path, contents.arrays[path]
    check_arrays(missing, extra)


def _role(path: str) -> str:
    """The role of a weight, by its name in an older file: "lstm/lstm_cell/kernel:0" is a kernel."""
    return path.rpartition("/")[2].partition(":")[0]


def check_arrays(missing: list[str], extra: list[str]) -> None:
    """Raises ContentError if arrays that a model needs are missing, or there are more."""
    problems = [
        f"{what} {', '.join(names[:_MOST_NAMED])}{', ...' * (len(names) > _MOST_NAMED)}"
        for what, names in (("missing", missing), ("unused", extra))
        if names
    ]
    if problems:
        raise ContentError(f"its arrays are not those of the model in its config: {'; '.join(problems)}")
