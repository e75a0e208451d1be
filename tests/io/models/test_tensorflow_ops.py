"""Each op of TensorFlow computes what TensorFlow computes: graphs of one op, in tests/golden/tensorflow/ops.zip."""

import itertools
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.io.safetensors_file import read_safetensors

GOLDEN = Path(__file__).parents[2] / "golden" / "tensorflow"
ARRAYS = read_safetensors(GOLDEN / "ops.safetensors").tensors
with zipfile.ZipFile(GOLDEN / "ops.zip") as archive:
    CASES: dict[str, Any] = json.loads(archive.read("ops.json"))

INPUT = {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}}}


def written(model: Any, folder: Path) -> Path:
    path = folder / "model.json"
    path.write_text(json.dumps(model))
    return path


def arrays(name: str, kind: str) -> dict[str, Any]:
    start = f"{name}/{kind}."
    return {key.removeprefix(start): array for key, array in ARRAYS.items() if key.startswith(start)}


@pytest.mark.parametrize("name", CASES)
def test_op(tmp_path: Path, name: str) -> None:
    model = tg.io.load_model(written(CASES[name], tmp_path))
    inputs = {key: tg.tensor(array, requires_grad=True) for key, array in arrays(name, "in").items()}
    outputs = model(**inputs)
    expected = arrays(name, "out")
    found = {"out_0": outputs} if isinstance(outputs, tg.Tensor) else outputs._asdict()
    assert found.keys() == expected.keys()
    for key, theirs in expected.items():
        ours = found[key].detach().numpy()
        assert ours.shape == theirs.shape
        assert (ours.dtype.kind == "f") == (theirs.dtype.kind == "f")
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    if total := [each.sum() for each in found.values() if each.requires_grad]:
        sum(total[1:], total[0]).backward()
        assert all(np.isfinite(each.grad.numpy()).all() for each in inputs.values() if each.grad is not None)


def load_nodes(folder: Path, *nodes: Any, functions: Any = ()) -> Any:
    topology = {"node": nodes, "library": {"function": functions}}
    return tg.io.load_model(written({"modelTopology": topology, "weightsManifest": []}, folder))


def test_ops_that_are_not_supported_are_named_all_at_once(tmp_path: Path) -> None:
    nodes = [
        {"name": "a", "op": "Betainc", "input": ["x", "x", "x"]},
        {"name": "b", "op": "Exp", "input": ["a"]},
        {"name": "c", "op": "Unheard", "input": ["a:1", "b"]},
        {"name": "d", "op": "Unheard", "input": ["c:5"]},
    ]
    with pytest.raises(ValueError, match=r"ops that are not supported: Betainc \(a\); Unheard \(c, d\)$"):
        load_nodes(tmp_path, INPUT, *nodes)


def test_arithmetic_with_complex_numbers_is_named_when_a_model_is_loaded(tmp_path: Path) -> None:
    of_complex = {"T": {"type": "DT_COMPLEX64"}}
    nodes = [
        {"name": "a", "op": "Complex", "input": ["x", "x"]},
        {"name": "b", "op": "Mul", "input": ["a", "a"], "attr": of_complex},
        {"name": "c", "op": "ComplexAbs", "input": ["b"], "attr": of_complex},
    ]
    with pytest.raises(ValueError, match=r"ops that are not supported: Mul of complex numbers \(b\)$"):
        load_nodes(tmp_path, INPUT, *nodes)


@pytest.mark.parametrize(("nodes", "message"), [
    ([{"name": "a", "op": "Exp", "input": ["b"]}, {"name": "b", "op": "Exp", "input": ["a"]}], "it has no outputs"),
    ([{"name": "a", "op": "Exp", "input": ["b"]}, {"name": "b", "op": "AddV2", "input": ["a", "b"]},
      {"name": "c", "op": "Exp", "input": ["a"]}], "the graph has a cycle, through the node"),
    ([{"name": "a", "op": "Exp", "input": ["gone"]}], "the graph has no node 'gone'"),
    ([{"name": "a", "op": "Exp", "input": ["x:one"]}], "the input 'x:one' is not the name of a value"),
    ([{"name": "a", "op": "Exp", "input": ["x:1"]}], "the node 'x' has no output 1"),
    ([{"name": "a", "op": "Exp"}], "the node 'a': 0 inputs, expected 1"),
    ([{"name": "a", "op": "Exp"}, {"name": "a", "op": "Exp"}], "two nodes have the same name"),
    ([{"name": "a", "op": "PartitionedCall", "attr": {"f": {"func": {"name": "f"}}}}], "there is no function 'f'"),
    ([{"name": "a", "op": "Merge", "input": ["x", "x"]}], "the branches at 'a'"),
    ([{"name": "a", "op": "Enter", "input": ["x"]}, {"name": "b", "op": "Merge", "input": ["a", "a"]}],
     "the loop '' is not complete at 'b'"),
    ([{"name": "a", "op": "VarHandleOp"}, {"name": "b", "op": "ReadVariableOp", "input": ["a"]}],
     "the variable 'a' has no array"),
    ([{"name": "a", "op": "Transpose", "input": ["x", "x"], "attr": {"odd": {"i": "1"}}}],
     "unknown attributes of Transpose: 'odd'"),
    ([{"name": "a", "op": "Split", "input": ["x", "x"], "attr": {"num_split": {"i": "1000000000"}}}],
     "'1000000000' outputs of Split"),
    ([{"name": "a", "op": "Const", "attr": {"value": {"tensor": {"dtype": "DT_FLOAT", "floatVal": [1],
        "tensorShape": {"dim": [{"size": "1000000000000"}]}}}}}, {"name": "b", "op": "Exp", "input": ["a"]}],
     "'a' has 1 elements, far fewer than its shape"),
])  # fmt: skip
def test_bad_graphs_are_refused(tmp_path: Path, nodes: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        load_nodes(tmp_path, INPUT, *nodes)
    assert str(raised.value).isprintable()


def function(name: str, *calls: str) -> dict[str, Any]:
    """A function that calls others, one after the other."""
    refs = ["x", *(f"{k}:output:0" for k in range(len(calls)))]
    return {
        "signature": {"name": name, "inputArg": [{"name": "x"}], "outputArg": [{"name": "y"}]},
        "nodeDef": [
            {"name": str(k), "op": "PartitionedCall", "input": [refs[k]], "attr": {"f": {"func": {"name": called}}}}
            for k, called in enumerate(calls)
        ],
        "ret": {"y": refs[-1]},
    }


@pytest.mark.parametrize(("functions", "message"), [
    ([function("f", "f")], "calls itself"),
    ([function("f", "g"), function("g", "f")], "calls itself"),
    ([function(f"{k}" if k else "f", f"{k + 1}") for k in range(1000)], "nested too deeply"),
    ([*(function(f"{k}" if k else "f", *[f"{k + 1}"] * 8) for k in range(30)), function("30")], "too many nodes"),
])  # fmt: skip
def test_functions_are_expanded_within_limits(tmp_path: Path, functions: list[Any], message: str) -> None:
    call = {"name": "y", "op": "PartitionedCall", "input": ["x"], "attr": {"f": {"func": {"name": "f"}}}}
    with pytest.raises(ValueError, match=message):
        load_nodes(tmp_path, INPUT, call, functions=functions)


def constant(name: str, value: int | list[float]) -> dict[str, Any]:
    """A node: an integer, or a vector of floats."""
    tensor = (
        {"dtype": "DT_INT32", "intVal": [value], "tensorShape": {}}
        if isinstance(value, int)
        else {"dtype": "DT_FLOAT", "floatVal": value, "tensorShape": {"dim": [{"size": str(len(value))}]}}
    )
    return {"name": name, "op": "Const", "attr": {"value": {"tensor": tensor}}}


def test_constants_that_are_computed_are_not_mixed_up(tmp_path: Path) -> None:
    """Neither is named in the file: x / 2 / 3."""
    cast = {"op": "Cast", "attr": {"DstT": {"type": "DT_FLOAT"}}}
    model = load_nodes(
        tmp_path,
        INPUT,
        *(constant("two", 2), constant("three", 3)),
        *({"name": "a", "input": ["two"], **cast}, {"name": "b", "input": ["three"], **cast}),
        {"name": "p", "op": "RealDiv", "input": ["x", "a"]},
        {"name": "y", "op": "RealDiv", "input": ["p", "b"]},
    )
    assert model(np.full(2, 12, "f4")).tolist() == [2.0, 2.0]


def test_constants_of_functions_have_parameters_of_their_own(tmp_path: Path) -> None:
    """Two functions whose constants have the same name; one is called twice, and has one parameter."""
    functions = [
        {
            "signature": {"name": name, "inputArg": [{"name": "x"}], "outputArg": [{"name": "y"}]},
            "nodeDef": [constant("c", value), {"name": "m", "op": "AddV2", "input": ["x", "c:output:0"]}],
            "ret": {"y": "m:z:0"},
        }
        for name, value in (("f", [1.0, 2.0]), ("g", [10.0, 20.0]))
    ]
    calls = [
        {"name": name, "op": "PartitionedCall", "input": [given], "attr": {"f": {"func": {"name": called}}}}
        for name, given, called in (("a", "x", "f"), ("b", "a", "g"), ("y", "b", "f"))
    ]
    model = load_nodes(tmp_path, INPUT, *calls, functions=functions)
    assert model(np.zeros(2, "f4")).tolist() == [12.0, 24.0]
    arrays_ = [each.tolist() for each in (*model.parameters(), *model.buffers())]
    assert sorted(arrays_) == [[1.0, 2.0], [10.0, 20.0]]


@tg.no_grad()
@pytest.mark.parametrize(("op", "mean", "deviation"), [
    ("RandomUniform", 0.5, 12**-0.5), ("RandomStandardNormal", 0.0, 1.0),
])  # fmt: skip
def test_random_numbers(tmp_path: Path, op: str, mean: float, deviation: float) -> None:
    model = load_nodes(
        tmp_path,
        INPUT,
        {"name": "shape", "op": "Shape", "input": ["x"]},
        {"name": "y", "op": op, "input": ["shape"], "attr": {"dtype": {"type": "DT_FLOAT"}, "seed": {"i": "7"}}},
    )
    tg.manual_seed(0)
    y = model(np.zeros((200, 50), "f4")).numpy()
    assert y.shape == (200, 50) and y.dtype == np.float32
    np.testing.assert_allclose([y.mean(), y.std()], [mean, deviation], rtol=0, atol=0.05)


@tg.no_grad()
def test_inputs_whose_first_dimensions_differ(tmp_path: Path) -> None:
    """As of a recurrent layer with the time first, beside lengths of the sequences."""
    free = [{"size": "-1"}]
    inputs = [
        {"name": name, "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}, "shape": {"shape": {"dim": dims}}}}
        for name, dims in (("x", free * 2), ("rows", free))
    ]
    model = load_nodes(tmp_path, *inputs, {"name": "y", "op": "AddV2", "input": ["x", "rows"]})
    np.testing.assert_array_equal(model(np.ones((5, 2), "f4"), np.ones(2, "f4")).numpy(), np.full((5, 2), 2))


def filled(name: str) -> dict[str, Any]:
    """A constant of 2**18 floats, of which the file has one."""
    node = constant(name, [1.0])
    node["attr"]["value"]["tensor"]["tensorShape"] = {"dim": [{"size": str(2**18)}]}
    return node


def test_constants_take_limited_memory(tmp_path: Path) -> None:
    names = [f"c{k}" for k in range(100)]
    add = {"name": "y", "op": "AddN", "input": names}
    assert load_nodes(tmp_path, *map(filled, names[:4]), {**add, "input": names[:4]})().tolist() == [4.0] * 2**18
    with pytest.raises(ValueError, match="its arrays take too much memory, measured by its size"):
        load_nodes(tmp_path, *map(filled, names), add)


def test_constants_of_functions_take_memory_once(tmp_path: Path) -> None:
    refs = ["x", *(f"y{k}" for k in range(100))]
    calls = [
        {"name": after, "op": "PartitionedCall", "input": [before], "attr": {"f": {"func": {"name": "f"}}}}
        for before, after in itertools.pairwise(refs)
    ]
    own = {**function("f"), "nodeDef": [filled("c"), {"name": "a", "op": "AddV2", "input": ["x", "c:output:0"]}]}
    model = load_nodes(tmp_path, INPUT, *calls, functions=[{**own, "ret": {"y": "a:z:0"}}])
    assert [each.size for each in model.parameters()] == [2**18]
    np.testing.assert_array_equal(model(tg.zeros(1)).detach().numpy(), np.full(2**18, 100.0))


def test_a_reserved_list_is_not_printed_element_by_element(tmp_path: Path) -> None:
    shape = {"name": "s", "op": "Const", "attr": {"value": {"tensor": {"dtype": "DT_INT32", "intVal": [3],
        "tensorShape": {"dim": [{"size": "1"}]}}}}}  # fmt: skip
    kind = {"element_dtype": {"type": "DT_FLOAT"}}
    for number, result in ((5, "(5, 3) = "), (2**24, "= ")):
        model = load_nodes(
            tmp_path,
            {**INPUT, "attr": {**INPUT["attr"], "shape": {"shape": {"dim": [{"size": "3"}]}}}},
            shape,
            constant("n", number),
            {"name": "l", "op": "TensorListReserve", "input": ["s", "n"], "attr": kind},
            {"name": "stacked", "op": "TensorListStack", "input": ["l", "s"], "attr": kind},
            {"name": "y", "op": "AddV2", "input": ["stacked", "x"]},
        )
        assert f"  stacked {result}TensorListStack" in repr(model)
