"""What the package's modules are called, and what they show: laws over every module that can be found."""

import builtins
import importlib
import importlib.resources
import pickle
import pkgutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.methods import OpMethods

OPS = "tinygrad_lstm.ops."
CHECKOUT = Path(__file__).resolve().parent.parent
NAMES = ["tinygrad_lstm", *(found.name for found in pkgutil.walk_packages(tg.__path__, "tinygrad_lstm."))]
NAMES.remove("tinygrad_lstm.__main__")  # runs the command when imported
for name in ("tinygrad_lstm.backends.cupy_backend", "tinygrad_lstm.distributed.nccl"):
    NAMES.remove(name)  # their tests load them anew, with another CuPy
ADAPTERS = ("sktime", "aeon")
for name in ADAPTERS:  # they need these libraries
    NAMES.remove(f"tinygrad_lstm.estimators.{name}")
MODULES = [importlib.import_module(name) for name in NAMES]
# The modules that users see, and what each shows of others.
SHOWN: dict[ModuleType, set[str]] = {
    tg: {
        "cuda",
        "data",
        "distributed",
        "estimators",
        "func",
        "inspect",
        "io",
        "models",
        "nn",
        "optim",
        "random",
        "search",
        "train",
    },
    tg.nn: {"init"},
    tg.optim: {"lr_scheduler", "swa_utils"},
    tg.models: {"atlas"},
    **{module: set() for module in (tg.cuda, tg.data, tg.estimators, tg.func, tg.inspect, tg.io, tg.random)},
    **{module: set() for module in (tg.search, tg.train)},
    **{module: set() for module in (tg.models.atlas, tg.nn.init, tg.optim.lr_scheduler, tg.optim.swa_utils)},
}
shown_modules = pytest.mark.parametrize("module", SHOWN, ids=lambda module: module.__name__)


def shown(module: ModuleType) -> set[str]:
    """What `dir` lists, but for names such as `__doc__`."""
    return {name for name in dir(module) if not (name.startswith("__") and name.endswith("__"))}


def starred(module: ModuleType) -> dict[str, Any]:
    """What `from module import *` brings."""
    namespace: dict[str, Any] = {}
    exec(f"from {module.__name__} import *", namespace)
    del namespace["__builtins__"]
    return namespace


def test_the_modules_of_all_floors_are_found() -> None:
    files = {path for floor in ("tinygrad_lstm", "backends", "models") for path in (CHECKOUT / floor).rglob("*.py")}
    unlisted = {CHECKOUT / "tinygrad_lstm" / "__main__.py", CHECKOUT / "backends" / "cupy_backend.py"}
    unlisted.add(CHECKOUT / "tinygrad_lstm" / "distributed" / "nccl.py")
    unlisted |= {CHECKOUT / "tinygrad_lstm" / "estimators" / f"{name}.py" for name in ADAPTERS}
    assert {Path(module.__file__ or "") for module in MODULES} == files - unlisted


def test_nothing_shadows_a_module() -> None:
    for name, module in zip(NAMES, MODULES, strict=True):
        assert module is sys.modules[name] and module.__name__ == name
        package, _, attribute = name.rpartition(".")
        assert not package or getattr(sys.modules[package], attribute) is module, name


def test_no_module_is_loaded_under_two_names() -> None:
    files = Counter(file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None)))
    assert {module.__file__: files[module.__file__] for module in MODULES if files[module.__file__] != 1} == {}


def test_every_name_in_all_exists() -> None:
    for module in MODULES:
        names = getattr(module, "__all__", [])
        assert len(names) == len(set(names)), module.__name__
        assert [name for name in names if not hasattr(module, name)] == [], module.__name__


@shown_modules
def test_dir_lists_what_is_for_users(module: ModuleType) -> None:
    assert {"__doc__", "__name__", "__file__"} <= set(dir(module))
    assert [name for name in shown(module) if name.startswith("_")] == []
    values = {name: getattr(module, name) for name in shown(module)}
    assert {name for name, value in values.items() if isinstance(value, ModuleType)} == SHOWN[module]
    homes = {name: getattr(value, "__module__", "tinygrad_lstm").partition(".")[0] for name, value in values.items()}
    foreign = {name for name, home in homes.items() if home != "tinygrad_lstm"}
    assert foreign <= {"Array", "Kind", "Weights"}  # aliases of types


@shown_modules
def test_import_star_brings_what_dir_lists_and_hides_no_builtin(module: ModuleType) -> None:
    assert set(starred(module)) == shown(module) - set(vars(builtins))


def test_ops_named_like_builtins_are_attributes() -> None:
    assert shown(tg) & set(vars(builtins)) == {"abs", "all", "any", "max", "min", "pow", "round", "sum"}


def test_type_checkers_know_every_method_that_ops_add() -> None:
    def made_by_ops(value: Any) -> bool:
        modules = getattr(value, "__module__", None), getattr(value, "__globals__", {}).get("__name__")
        return any(str(module).startswith(OPS) for module in modules)

    added = {name for name, value in vars(tg.Tensor).items() if made_by_ops(value)}
    assert added == OpMethods.__annotations__.keys()


def test_the_op_that_writes_is_not_a_method() -> None:
    assert not hasattr(tg.Tensor, "setitem")  # `x[i] = v` counts the write, so that no gradient is silently wrong


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'tinygrad_lstm' has no attribute 'tests'"):
        tg.tests  # type: ignore[attr-defined]


def test_files_beside_sources_are_found() -> None:
    kernels = importlib.resources.files("tinygrad_lstm.backends.cuda")
    assert kernels.joinpath("persistent_lstm.cu").is_file()
    assert importlib.resources.files("tinygrad_lstm").joinpath("py.typed").is_file()


def test_a_reload_shows_the_same() -> None:
    """In a new interpreter, since a reload makes new classes."""
    code = """
import importlib
import tinygrad_lstm as tg
before = dir(tg), tg.__all__, tg.__path__
assert importlib.reload(tg) is tg and (dir(tg), tg.__all__, tg.__path__) == before
importlib.reload(tg.models)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", [tg.Tensor, tg.models.LSTM, tg.train.TrainingOptions, tg.nn.Linear])
def test_classes_are_pickled_by_the_names_they_are_imported_by(kind: type) -> None:
    assert pickle.loads(pickle.dumps(kind)) is kind
