"""`tinygrad-lstm gradient-flow`: its table, its files, and what it says about bad input."""

import csv
from pathlib import Path

import pytest
from commands import fail_here, succeed, succeed_here

TINY = ["--lag", 25, "--hidden", 4, "--steps", 3, "--seeds", 2]
NETWORKS = ["RNN", "GRU, update bias 0", "GRU, update bias 3", *(f"LSTM, forget bias {bias}" for bias in (0, 1, 3))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a tiny run's files, and what it printed."""
    folder = tmp_path_factory.mktemp("flow")
    return folder, succeed("gradient-flow", *TINY, "--out", "flow.svg", "--csv", "flow.csv", cwd=folder)


def test_it_prints_a_line_for_each_network_state_and_stage(made: tuple[Path, str]) -> None:
    _, printed = made
    begin = printed.index("network ")
    header, *rows = printed[begin : printed.index("\n\n", begin)].splitlines()
    assert " ".join(header.split()) == "network state trained rate half-life fit at 25 learnt"
    expected = [
        (network, state, trained)
        for network in NETWORKS
        for trained in ("no", "yes")
        for state in (("h", "c") if network.startswith("LSTM") else ("h",))
    ]
    assert len(rows) == len(expected)
    for row, (network, state, trained) in zip(rows, expected, strict=True):
        assert row.startswith(network)
        cells = row[len(network) :].split()
        assert cells[:2] == [state, trained]
        assert 0.3 < float(cells[2]) < 1.2
        assert cells[6:] == (["0", "of", "2"] if trained == "yes" else [])
    assert all(len(line) <= 80 for line in printed.splitlines())


def test_it_writes_every_norm_of_every_seed(made: tuple[Path, str]) -> None:
    folder, _ = made
    with open(folder / "flow.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    curves: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("network", "seed", "trained", "layer", "state"))
        assert int(row["distance"]) == len(curves.setdefault(key, []))
        curves[key].append(float(row["norm"]))
    assert {key[0] for key in curves} == set(NETWORKS)
    assert len(curves) == (3 * 1 + 3 * 2) * 2 * 2  # states, seeds, untrained and trained
    assert len({len(norms) for norms in curves.values()}) == 1
    assert all(norm > 0 for norms in curves.values() for norm in norms)
    kept, lost = (curves[label, "0", "0", "network.l0", "c"] for label in (NETWORKS[5], NETWORKS[3]))
    assert kept[20] / kept[0] > 100 * lost[20] / lost[0]


def test_it_draws_and_names_its_files(made: tuple[Path, str]) -> None:
    pytest.importorskip("matplotlib")
    folder, printed = made
    assert (folder / "flow.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert printed.endswith("plot:    flow.svg\nnumbers: flow.csv\n")
    assert {path.name for path in folder.iterdir()} == {"flow.svg", "flow.csv"}


@pytest.mark.parametrize("task", ["adding", "symbol"])
def test_every_task_can_be_chosen_and_a_run_repeats(task: str) -> None:
    arguments = ["gradient-flow", "--task", task, *TINY[:-1], 1]
    printed = succeed_here(*arguments)
    assert f"the task '{task}' with a lag of 25" in printed
    assert succeed_here(*arguments) == printed
    assert succeed_here(*arguments, "--seed", 1) != printed


def test_bad_input_is_one_line_before_any_work(tmp_path: Path) -> None:
    assert fail_here("gradient-flow", "--task", "xor") == "--task: expected one of adding, signal, symbol, got 'xor'"
    for option in ("--lag", "--hidden", "--steps", "--seeds"):
        assert fail_here("gradient-flow", option, 0) == f"{option}: expected at least 1, got 0"
    assert fail_here("gradient-flow", "--seed", -1) == "--seed: expected at least 0, got -1"
    assert fail_here("gradient-flow", "--task", "adding", "--lag", 21) == (
        "--lag: adding: expected length to be at least 22, got 21"
    )
    nowhere = tmp_path / "nowhere"
    for option in ("--out", "--csv"):
        assert (
            fail_here("gradient-flow", option, nowhere / "flow.png")
            == f"{nowhere / 'flow.png'}: No such file or directory"
        )
        assert fail_here("gradient-flow", option, tmp_path) == (
            f"{option}: expected the path of a file, got the folder '{tmp_path}'"
        )
        assert fail_here("gradient-flow", option, "") == f"{option}: expected a path, got an empty string"
    message = fail_here("gradient-flow", "--out", tmp_path / "flow.xyz")
    assert message == f"--out: expected a name ending in .png, .svg, .pdf, got '{tmp_path / 'flow.xyz'}'"
