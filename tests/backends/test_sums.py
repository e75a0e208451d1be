"""Nobody adds up floats in a way of their own: what `backends/sums.py` does is the one rule."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

SUMS = {"average", "cumprod", "cumsum", "dot", "einsum", "inner", "mean", "prod", "std", "sum", "tensordot", "trace"}
SUMS |= {"var", "vdot", "bincount", "nansum", "nanmean", "cumulative_sum"}
OF_ADD = {"accumulate", "at", "reduce", "reduceat"}

WITH_REASONS = {
    ("backends/cuda/training.py", "scatter_add"): "integers",
    ("backends/numpy_backend.py", "_sum_of_squares"): "dot products of short pieces",
    ("backends/numpy_backend.py", "_add_to_rows"): "places that are named a few times each",
    (
        "backends/numpy_backend.py",
        "scatter_add",
    ): "integers; places that are named a few times each; float32 in float64",
    ("backends/products.py", "_without_blas"): "products of matrices, where there is no BLAS",
    ("backends/scatter.py", "blocks_of_values"): "numbers of blocks",
    ("backends/scatter.py", "have_few_values"): "counts",
    ("tinygrad_lstm/ops/linalg.py", "einsum_op"): "products of matrices, which are the array library's",
    ("tinygrad_lstm/ops/ctc.py", "_labels"): "integers",
    ("tinygrad_lstm/ops/class_loss.py", "cross_entropy_op"): "a count",
    ("tinygrad_lstm/ops/reduction.py", "prod"): "products, in float32 at least",
    ("backends/scans.py", "running_product"): "products, in float64",
}


def plain_sums(tree: ast.Module) -> Iterator[str]:
    """The functions that call a sum of an array module: `xp.sum`, `np.add.reduce`, `self.xp.mean`, ..."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of, name = ast.unparse(node.func.value).removeprefix("self."), node.func.attr
                if (of in ("xp", "np") and name in SUMS) or (of in ("xp.add", "np.add") and name in OF_ADD):
                    yield function.name


def test_sums_of_an_array_module_stand_in_one_place() -> None:
    folders = ["backends", "tinygrad_lstm/ops", "tinygrad_lstm/optim"]
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    files.append(ROOT / "tinygrad_lstm/walk.py")
    found = {
        (path.relative_to(ROOT).as_posix(), function)
        for path in files
        if path != ROOT / "backends/sums.py"
        for function in plain_sums(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == WITH_REASONS.keys()


def test_a_plain_sum_is_seen() -> None:
    text = "def f(xp, x):\n    return xp.sum(x) + self.xp.add.reduce(x) + np.vdot(x, x)"
    assert list(plain_sums(ast.parse(text))) == ["f", "f", "f"]
    assert list(plain_sums(ast.parse("def f(F, x):\n    return F.sum(x) + x.sum() + math.prod(x.shape)"))) == []
