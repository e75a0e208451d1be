"""Writes the public names of PyTorch 2.13 that `docs/api/torch.md` is compared with.

python tests/golden/torch_names.py    # rewrites torch_names.json beside it; needs PyTorch, see make_golden.py
"""

import json
import warnings
from pathlib import Path
from typing import Any

import torch


def public(holder: Any, kind: Any = None) -> list[str]:
    """The names of functions, or of what `kind` is true for, without those that begin with an underscore."""
    found = (name for name in dir(holder) if not name.startswith("_"))
    return sorted(name for name in found if (kind or callable)(getattr(holder, name)))


def overridable(holder: Any) -> list[str]:
    """The functions of a module that take tensors."""
    functions = {function for found in torch.overrides.get_overridable_functions().values() for function in found}
    return public(holder, lambda value: callable(value) and value in functions)


def defined(holder: Any, base: type) -> list[str]:
    """The subclasses of a class that a module has."""
    return public(holder, lambda value: isinstance(value, type) and issubclass(value, base) and value is not base)


def main() -> None:
    """Writes the file."""
    warnings.simplefilter("ignore")  # of deprecated names
    schedules = torch.optim.lr_scheduler
    names = {
        "torch": overridable(torch),
        "torch.nn.functional": overridable(torch.nn.functional),
        "torch.Tensor": public(torch.Tensor),
        "torch.nn": defined(torch.nn, torch.nn.Module),
        "torch.nn.init": [name for name in public(torch.nn.init) if name.endswith("_")],
        "torch.optim": defined(torch.optim, torch.optim.Optimizer),
        "torch.optim.lr_scheduler": defined(schedules, schedules.LRScheduler),
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(names, indent=1) + "\n")
    print(f"{path.name}: {', '.join(f'{len(found)} of {holder}' for holder, found in names.items())}")


if __name__ == "__main__":
    main()
