"""The record of benchmarks: what is measured is appended, and records are compared."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

import tinygrad_lstm as tg

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def record() -> Iterator[ModuleType]:
    """benchmarks/record.py, whose modules import each other by their names."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import record

        yield record
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_what_is_measured_is_appended(record: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "START", record.Sizes(2, 2, 3, 4))
    small = [replace(table, sizes=[record.Sizes(2, 2, 3, 3)], theirs=["products"]) for table in record.TABLES[1:2]]
    record.append(record.measured(small, 1, 1), tmp_path / "record.jsonl")
    record.append(record.records(tmp_path / "record.jsonl")[0], tmp_path / "record.jsonl")
    one, other = record.records(tmp_path / "record.jsonl")
    assert one == other and one.version == tg.__version__ and one.machine["threads"] == 1
    assert list(one.seconds) == ["forward (2, 2, 3, 3)", "import", "first use, empty cache", "first use, used cache"]
    assert all(seconds > 0 for seconds in one.seconds.values())
    assert list(one.torch) == ["forward (2, 2, 3, 3)"]


def test_records_are_compared(record: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = {"processor": "p", "cores": 2, "threads": 1, "kernels": "compiled"}
    path = tmp_path / "record.jsonl"
    old = record.Record("2026-01-01T00:00:00+00:00", "a1", "0.1.0", machine, 0.1, {"step": 0.002, "gone": 1.0})
    elsewhere = replace(old, machine={**machine, "threads": 2}, commit="b2")
    new = replace(old, commit="c3", seconds={"step": 0.0025, "added": 1e-5}, torch={"step": 0.5}, load=9.0)
    for each in (old, elsewhere, new):
        record.append(each, path)
    record.show(path, 4)
    printed = capsys.readouterr().out
    assert "| ms (ratio to PyTorch) | 2026-01-01 a1 | 2026-01-01 c3 | change |" in printed
    assert "| step | 2 | 2.5 (0.50) | +25 % |" in printed
    assert "| added | – | 0.01 | – |" in printed
    assert "b2" not in printed and "1 records of other processors" in printed
    assert "busy at the start of 2026-01-01 c3:" in printed
    with pytest.raises(SystemExit, match="has no records"):
        record.show(tmp_path / "none.jsonl", 4)


def test_lines_of_the_projects_record_can_be_compared(record: ModuleType) -> None:
    found = record.records(record.RECORD)
    for each in found:
        assert each.comparable(each) and each.commit and each.seconds.keys() >= each.torch.keys()
        assert all(value > 0 for value in [*each.seconds.values(), *each.torch.values()])
    assert found == sorted(found, key=lambda each: each.date)
