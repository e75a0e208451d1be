"""Writes stubs that show backends/ and models/ inside tinygrad_lstm/, where they are installed.

Type checkers and editors look for `tinygrad_lstm.models.cells` in tinygrad_lstm/models/. In a checkout they find a stub
there, of one line, which leads them to the source. Python itself never reads stubs.

Usage: python .ci/stubs.py [CHECKOUT]
"""

import shutil
import sys
from pathlib import Path

checkout = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
for floor in ("backends", "models"):
    stubs = checkout / "tinygrad_lstm" / floor
    shutil.rmtree(stubs, ignore_errors=True)
    for source in (checkout / floor).rglob("*.py"):
        path = source.relative_to(checkout)
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        stub = checkout / "tinygrad_lstm" / path.with_suffix(".pyi")
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(f"from {module} import *\n", encoding="utf-8")
