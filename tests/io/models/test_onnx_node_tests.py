"""ONNX's own tests of each op: values, derivatives, and what is refused."""

import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

import tinygrad_lstm as tg
from tinygrad_lstm.io.models.onnx import building  # noqa: F401  (all rules are registered)
from tinygrad_lstm.io.models.onnx.control import CONTROL
from tinygrad_lstm.io.models.rules import rule_for

NOT_SUPPORTED = {
    "BitCast": "tensors have no views in a different dtype",
    "DeformConv": "of images only",
    "Det": "there is no op for determinants",
    "ImageDecoder": "of images only",
    "LinearAttention": "no exporter writes it yet",
    "MaxRoiPool": "of images only",
    "NonMaxSuppression": "of images only",
    "RegexFullMatch": "of strings",
    "RoiAlign": "of images only",
    "StringConcat": "of strings",
    "StringNormalizer": "of strings",
    "StringSplit": "of strings",
    "TfIdfVectorizer": "of strings",
}
"""The ops of ONNX for which there is no rule, each with the reason."""

OTHER_DOMAINS = ("ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training")
"""Domains of which no op is read: scikit-learn's models, previews, optimizers."""

OF_BUILDER = {*CONTROL, "Constant", "GRU", "LSTM", "RNN"}
"""Ops that have no rule, as they are more than a function of their inputs."""

DTYPES = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.BOOL} | {
    getattr(TensorProto, f"{sign}INT{size}") for sign in ("", "U") for size in (8, 16, 32, 64)
}
"""The element types that are read: a model with a different one is refused."""

RESOLUTION = {"float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52, "bfloat16": 2.0**-7}
"""A result may differ by this much of the largest one: those that are expected were rounded too."""

RANDOM = ("test_bernoulli", "test_training_dropout")
"""How the names of tests begin whose results come from ONNX's generator."""


@functools.cache
def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(load_model_tests(kind="node"))


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes_of(attribute.g)


def op_name(node: onnx.NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def is_supported(op: str, opset: int) -> bool:
    return op in OF_BUILDER or rule_for("", op, opset) is not None


def element_types(case: Any) -> set[int]:
    ports = [*case.model.graph.input, *case.model.graph.output]
    return {port.type.tensor_type.elem_type for port in ports if port.type.WhichOneof("value") == "tensor_type"}


def loaded(case: Any, folder: Path) -> Any:
    path = folder / "model.onnx"
    onnx.save(case.model, path)
    return tg.io.load_model(path)


def array(value: Any) -> Any:
    """A tensor of the tests as an array of a dtype of NumPy's; a sequence as a list of them."""
    if value is None:
        return None
    if isinstance(value, TensorProto):
        value = numpy_helper.to_array(value)
    if isinstance(value, list | tuple):
        return [array(part) for part in value]
    value = np.asarray(value)
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else value


def is_float(value: Any) -> bool:
    found = None if value is None else array(value)
    return isinstance(found, np.ndarray) and found.dtype.kind == "f"


def check_close(got: Any, expected: Any, dtype: str, rtol: float, atol: float) -> None:
    if isinstance(expected, list):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            check_close(one, other, dtype, rtol, atol)
        return
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    if is_float(expected):
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
        atol = max(atol, RESOLUTION[dtype or got.dtype.name] * largest)
    np.testing.assert_allclose(got.numpy(), expected, rtol=rtol, atol=atol)


def check_values(case: Any, model: Any) -> None:
    dtype = "bfloat16" if TensorProto.BFLOAT16 in element_types(case) else ""
    for given, expected in case.data_sets:
        outputs = model(*[array(each) for each in given])
        outputs = outputs if len(model.output_names) > 1 else (outputs,)
        for got, each in zip(outputs, expected, strict=False):
            if case.name.startswith(RANDOM):
                assert got.shape == array(each).shape
            elif each is not None:
                check_close(got, array(each), dtype, case.rtol, case.atol)


def failures(checked: Callable[[Any], None], chosen: list[Any]) -> str:
    """The names of the tests that fail, each with the error."""
    found = []
    for case in chosen:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                checked(case)
        except Exception as error:
            op = op_name(case.model.graph.node[-1])
            message = " ".join(f"{type(error).__name__}: {error}".split())
            found.append(f"{op}: {case.name}: {message[:300]}")
    return "\n".join(found)


def is_read(case: Any) -> bool:
    """Whether there are rules for all ops, and the inputs are of dtypes that are read."""
    opsets = {each.domain: each.version for each in case.model.opset_import}
    return element_types(case) <= DTYPES and all(
        is_supported(op_name(node), opsets.get("", 1)) for node in nodes_of(case.model.graph)
    )


@tg.no_grad()
def test_values(tmp_path: Path) -> None:
    chosen = [case for case in cases() if is_read(case)]
    assert len(chosen) > 1500
    found = failures(lambda case: check_values(case, loaded(case, tmp_path)), chosen)
    assert not found, found


def on_strict(value: Any) -> Any:
    if isinstance(value, list):
        return [on_strict(each) for each in value]
    return None if value is None else tg.tensor(value, device="strict")


@tg.no_grad()
def test_values_on_a_different_device(tmp_path: Path) -> None:
    """Of one test of each op, on a device whose arrays do not mix with NumPy's."""
    of_op = {
        node_of(case).op_type: case
        for case in cases()
        if is_read(case) and any(given is not None for given in case.data_sets[0][0])
        if not case.name.startswith(RANDOM)
    }

    def check(case: Any) -> None:
        given, expected = case.data_sets[0]
        model = loaded(case, tmp_path).to("strict")
        outputs = model(*[on_strict(array(each)) for each in given])
        dtype = "bfloat16" if TensorProto.BFLOAT16 in element_types(case) else ""
        for got, each in zip(outputs if len(model.output_names) > 1 else (outputs,), expected, strict=False):
            if isinstance(got, tg.Tensor):
                assert got.device == "strict"
                check_close(got.cpu(), array(each), dtype, case.rtol, case.atol)

    assert len(of_op) > 120
    found = failures(check, list(of_op.values()))
    assert not found, found


def test_what_is_not_supported_is_refused(tmp_path: Path) -> None:
    def check(case: Any) -> None:
        with pytest.raises(ValueError, match=r"not supported|cannot have|lacks|not a tensor"):
            loaded(case, tmp_path)

    found = failures(check, [case for case in cases() if not is_read(case)])
    assert not found, found


def test_each_op_has_a_rule_or_a_reason() -> None:
    schemas = [each for each in onnx.defs.get_all_schemas() if not each.deprecated]
    ops = {each.name for each in schemas if each.domain == ""}
    supported = {op for op in ops if is_supported(op, onnx.defs.onnx_opset_version())}
    assert ops - supported <= NOT_SUPPORTED.keys()
    assert not supported & NOT_SUPPORTED.keys()
    assert {each.domain for each in schemas} - {""} <= set(OTHER_DOMAINS)


FIRST = 7
"""The first version of the operators that is read."""


def test_each_version_of_an_op_has_a_rule_with_its_inputs_and_attributes() -> None:
    versions: dict[str, list[Any]] = {}
    for each in sorted(onnx.defs.get_all_schemas_with_history(), key=lambda each: each.since_version):
        if each.domain == "" and not each.deprecated and each.name not in OF_BUILDER | NOT_SUPPORTED.keys():
            known = versions.setdefault(each.name, [])
            if each.since_version <= FIRST:
                known.clear()
            known.append(each)
    found = []
    for op, schemas in versions.items():
        for schema in schemas:
            rule = rule_for("", op, max(schema.since_version, FIRST))
            if rule is None:
                found.append((op, schema.since_version, "no rule"))
            elif missing := schema.attributes.keys() - rule.attributes.keys():
                found.append((op, schema.since_version, sorted(missing)))
            elif len(schema.inputs) > len(rule.conversions) and not rule.variadic:
                found.append((op, schema.since_version, len(schema.inputs)))
    assert found == []


# -- derivatives -------------------------------------------------------------------------------------------------------

MOST_ELEMENTS = 75
"""The most elements of the inputs of a test whose derivatives are compared, as each takes two runs."""

ROUNDING = ("Cast", "CastLike", "MelWeightMatrix")
"""Ops whose results are rounded, or in a dtype in which finite differences are too inexact."""


def node_of(case: Any) -> onnx.NodeProto:
    return case.model.graph.node[0]


def size_of(case: Any) -> int:
    return sum(array(each).size for each in case.data_sets[0][0])


def has_derivatives(case: Any) -> bool:
    given, expected = case.data_sets[0]
    return (
        len(case.model.graph.node) == 1
        and is_read(case)
        and node_of(case).op_type not in OF_BUILDER | set(ROUNDING)
        and not case.name.startswith(RANDOM)
        and any(map(is_float, given))
        and any(map(is_float, expected))
        and 0 < size_of(case) <= MOST_ELEMENTS
    )


def check_derivatives(case: Any, folder: Path) -> None:
    """Compares the gradient with finite differences, near the test's inputs: at these there may be kinks."""
    model, node = loaded(case, folder), node_of(case)
    rule = rule_for("", node.op_type, case.model.opset_import[0].version)
    assert rule is not None
    kinds = dict(zip(node.input, rule.kinds(len(node.input)), strict=True))
    rng = np.random.default_rng(0)
    inputs = []
    for port, each in zip(model.inputs, case.data_sets[0][0], strict=True):
        value = array(each)
        if is_float(value):
            value = value.astype(np.float64)
            if kinds[port.name] not in ("ints", "floats"):
                value = tg.tensor(value + rng.uniform(0, 1e-3, value.shape), requires_grad=True)
        inputs.append(value)
    several = len(model.output_names) > 1
    tg.gradcheck(lambda *given: list(model(*given)) if several else model(*given), inputs)


def test_derivatives(tmp_path: Path) -> None:
    smallest: dict[str, Any] = {}
    for case in sorted(filter(has_derivatives, cases()), key=size_of, reverse=True):
        smallest[node_of(case).op_type] = case
    assert len(smallest) > 90
    found = failures(lambda case: check_derivatives(case, tmp_path), list(smallest.values()))
    assert not found, found
