"""`tinygrad-lstm atlas`, and what it reads from the cells."""

import re

import pytest
from commands import fail_here, succeed, succeed_here

from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models.atlas import ATLAS
from tinygrad_lstm.models.cells import Cell


@pytest.fixture(scope="module")
def listed() -> dict[str, tuple[str, str]]:
    """For each cell its line, and its equations."""
    header, *blocks = succeed("atlas", "--input-size", 3, "--hidden-size", 6).split("\n\n")
    assert header == "Cells of 6 units with inputs of 3 numbers."
    lines = {block.partition(":")[0]: block.partition("\n") for block in blocks}
    return {name: (line, equations) for name, (line, _, equations) in lines.items()}


def gates_of(cell: Cell) -> set[str]:
    """The names of what a step computes; of the candidate of LSTMCell, its symbol."""
    kind = KINDS.get(getattr(cell, "KIND", ""))
    if kind is None:
        return set(cell.GATES._fields)  # type: ignore[attr-defined]
    return {gate.symbol.rstrip("ₜ") for gate in kind.gates} | set(cell.STATES)


@pytest.mark.parametrize("name", ATLAS)
def test_it_lists_every_cell(name: str, listed: dict[str, tuple[str, str]]) -> None:
    assert list(listed) == list(ATLAS)
    line, equations = listed[name]
    cell = ATLAS[name](3, 6)
    number = sum(parameter.size for parameter in cell.parameters())
    states = f"state{'s'[: len(cell.STATES) - 1]} {', '.join(cell.STATES)}"
    assert re.fullmatch(rf"{name}: {states}, {number:,} parameters \(.*[12]\d\d\d.*\)", line)
    computed = {line.split("=")[0].strip() for line in equations.splitlines()}
    assert computed >= {f"{state}'" for state in cell.STATES}
    assert {symbol.rstrip("'") for symbol in computed} >= gates_of(cell)


@pytest.mark.parametrize("name", ATLAS)
def test_the_description_names_every_parameter_and_option(name: str) -> None:
    for text in [*dict(ATLAS[name](3, 6).named_parameters()), *ATLAS[name].options()]:
        assert re.search(rf"\b{text}\b", ATLAS[name].__doc__ or ""), text


def test_one_in_full() -> None:
    printed = succeed_here("atlas", "lem", "--input-size", 3, "--hidden-size", 6)
    lines = printed.splitlines()
    assert lines[0] == "tinygrad_lstm.models.atlas.continuous.LEMCell"
    assert "Rusch, Mishra, Erichson and Mahoney" in printed and ">>>" not in printed
    assert lines[-3:] == [
        "states      y 6, z 6",
        "parameters  weight_ih 24 × 3, weight_hh 18 × 6, bias 24, weight_zh 6 × 6, 240 in total",
        "options     dt=1.0",
    ]
    printed = succeed_here("atlas", "lstm")
    assert ">>>" not in printed and printed.endswith("98,816 in total\noptions     forget_bias=1.0\n")
    assert succeed_here("atlas", "mgu").endswith("\noptions     none\n")


def test_what_it_does_not_know_is_one_line() -> None:
    assert (
        fail_here("atlas", "peephole")
        == "NAME: expected a cell of the atlas, such as lstm_peephole, lem, gru_reset_after, got 'peephole'"
    )
    assert fail_here("atlas", "--hidden-size", 0) == "--hidden-size: expected at least 1, got 0"
    assert fail_here("atlas", "lem", "--input-size", -1) == "--input-size: expected at least 1, got -1"
