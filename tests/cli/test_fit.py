"""`fit` and `predict`: what they print and write, and what they refuse before a training begins."""

import csv
import re
import shlex
import signal
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from cli_signals import running, wait_for
from commands import COMMAND, fail_here, run_here, succeed, succeed_here
from labelled_tables import LONG, QUICK, Row, long_table, rows_of, wide_table, written

import tinygrad_lstm as tg
from tinygrad_lstm.data import read_sequences
from tinygrad_lstm.estimators import SequenceClassifier, load

HEAD = ["id", "t", "left", "right", "y"]


def label(k: int, values: np.ndarray) -> str:
    return ("low", "high")[k % 2]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a table, train.csv, and a fit of it in out; and what was printed."""
    folder = tmp_path_factory.mktemp("fitted")
    long_table(folder / "train.csv", 40)
    return folder, succeed("fit", "classify", "train.csv", *LONG, *QUICK, "--out", "out", cwd=folder)


def test_it_says_what_it_read_and_how_good_the_model_is(fitted: tuple[Path, str]) -> None:
    printed = fitted[1]
    assert printed.startswith(
        "read train.csv: 40 sequences of 3 to 8 steps, 2 features (left, right)\n2 classes: high 20, low 20\n"
        "32 sequences to train on, 8 to test on\ntraining lstm, 1 layer of 6 units, on cpu"
    )
    assert re.search(r"^finding the number of epochs: epoch 4 of 4  loss .* validation ", printed, re.MULTILINE)
    assert re.search(r"^training the final network: epoch 4 of 4  loss ", printed, re.MULTILINE)
    network, always, linear = (
        re.search(rf"^{name}.* ([\d.]+)%  +(\d) of 8  ", printed, re.MULTILINE) for name in ("the net", "always", "lin")
    )
    assert network and always and linear and int(always[2]) == 4 and int(linear[2]) >= 7
    confusion = re.findall(r"^(?:high|low) +(\d) +(\d)$", printed, re.MULTILINE)
    assert sum(map(int, sum(confusion, ()))) == 8 and int(confusion[0][0]) + int(confusion[1][1]) == int(network[2])


def test_its_predictions_are_those_of_the_estimator(fitted: tuple[Path, str]) -> None:
    folder = fitted[0]
    classifier = load(folder / "out" / "model.safetensors")
    assert isinstance(classifier, SequenceClassifier)
    long_table(folder / "new.csv", seed=1)
    data = read_sequences(folder / "new.csv", target="y", id="id", time="t")
    result = run_here("predict", "out", "new.csv", cwd=folder)
    table = list(csv.reader(result.stdout.splitlines()))
    assert table[0] == ["sequence", "target", "prediction", "p(high)", "p(low)"]
    assert [row[:3] for row in table[1:]] == [
        list(row) for row in zip(data.names, data.targets.tolist(), classifier.predict(data.sequences), strict=True)
    ]
    probabilities = np.array([row[3:] for row in table[1:]], float)
    np.testing.assert_allclose(probabilities, classifier.predict_proba(data.sequences), atol=1e-4)
    assert f"{classifier.score(data.sequences, data.targets):.1%}" in result.stderr


def test_a_table_without_targets_and_with_other_columns(fitted: tuple[Path, str], tmp_path: Path) -> None:
    rows = [[row[3], "text", row[2], row[0], row[1]] for row in rows_of(lambda *_: "", 3)]
    written(tmp_path / "new.csv", ["right", "comment", "left", "id", "t"], rows)
    written(tmp_path / "same.csv", ["id", "t", "left", "right"], [row[:4] for row in rows_of(lambda *_: "", 3)])
    out = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, place in zip([tmp_path / "new.csv", tmp_path / "same.csv"], out, strict=True):
        printed = succeed_here("predict", fitted[0] / "out" / "model.safetensors", path, "--out", place)
        assert printed == f"wrote {place}: 3 predictions\n"
    assert out[0].read_text() == out[1].read_text()
    assert out[0].read_text().startswith("sequence,prediction,p(high),p(low)\ns0,")


def test_a_regression_on_a_wide_table(tmp_path: Path) -> None:
    wide_table(tmp_path / "wide.csv", 60)
    command = ["fit", "regress", "wide.csv", "--target", "y", *QUICK[2:], "--epochs", 20, "--out", "out"]
    printed = succeed_here(*command, cwd=tmp_path)
    assert "60 sequences of 4 to 6 steps, 1 feature (value)\ntargets from " in printed
    errors = {
        name: float(error)
        for name, error in re.findall(r"^(the network|always the mean|linear).*?  +([\d.]+)  ", printed, re.MULTILINE)
    }
    assert errors["the network"] < errors["always the mean"] and len(errors) == 3
    wide_table(tmp_path / "one.csv", 1, seed=3)
    written_rows = run_here("predict", "out", "one.csv", cwd=tmp_path).stdout.splitlines()
    assert re.fullmatch(r"line 2,[\d.]+,[\d.]+", written_rows[1])


def test_a_file_to_test_on(fitted: tuple[Path, str], tmp_path: Path) -> None:
    long_table(tmp_path / "test.csv", 10, seed=2)
    command = ["fit", "classify", fitted[0] / "train.csv", *LONG, *QUICK]
    printed = succeed_here(*command, "--test", "test.csv", "--out", "a", cwd=tmp_path)
    assert "40 sequences to train on, 10 to test on\ntraining" in printed and " of 10 " in printed
    names = [row[0] for row in csv.reader((tmp_path / "a" / "predictions.csv").read_text().splitlines())]
    assert names == ["sequence", *(f"s{k}" for k in range(10))]
    long_table(tmp_path / "same.csv", 3)
    printed = succeed_here(*command, "--test", "same.csv", "--out", "c", cwd=tmp_path)
    assert "note: 3 of the test are equal to one to train on, such as s0: it is too easy" in printed
    printed = succeed_here(*command, "--test", 0, "--out", "b", cwd=tmp_path)
    assert "no test: how good the model is on new sequences is not known" in printed


def groups_of(path: Path) -> dict[str, str]:
    """The groups of sequences by id, in a long table whose last column they are."""
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    return {row[0]: row[-1] for row in rows}


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """A folder with a table of 40 sequences of eight persons, a.csv."""
    rows = [[*row, f"person {int(str(row[0])[1:]) % 8 // 2}{row[4]}"] for row in rows_of(label, 40)]
    written(tmp_path / "a.csv", [*HEAD, "who"], rows)
    return tmp_path


def test_a_group_is_in_one_part_only(grouped: Path) -> None:
    command = ["fit", "classify", "a.csv", *LONG, *QUICK, "--group", "who", "--test", 0.25]
    printed = succeed_here(*command, "--out", "out", cwd=grouped)
    assert "2 features (left, right)\n2 classes: high 20, low 20\n30 sequences to train on, 10 to test on\n" in printed
    assert "\n6 groups to train on, 2 to test on\ntraining" in printed
    groups = groups_of(grouped / "a.csv")
    table = list(csv.reader((grouped / "out" / "predictions.csv").read_text().splitlines()))
    tested = {row[0] for row in table[1:]}
    inside = {groups[name] for name in tested}
    assert tested == {name for name, group in groups.items() if group in inside} and len(inside) == 2
    # The network is the same as that of a training with the same groups, and no other.
    data = read_sequences(grouped / "a.csv", target="y", id="id", time="t", group="who")
    assert data.groups is not None and data.targets is not None
    rest = np.array([name not in tested for name in data.names])
    X = [sequence for sequence, kept in zip(data.sequences, rest, strict=True) if kept]
    fitted = load(grouped / "out" / "model.safetensors")
    settings = {**fitted.get_params(), "device": None}
    again = SequenceClassifier(**settings).fit(X, data.targets[rest], groups=data.groups[rest])
    assert (again.predict_proba(X) == fitted.predict_proba(X)).all()
    other = SequenceClassifier(**settings).fit(X, data.targets[rest])
    assert not (other.predict_proba(X) == fitted.predict_proba(X)).all()


def test_groups_are_kept_when_it_goes_on_and_are_not_needed_to_predict(grouped: Path) -> None:
    command = ["fit", "classify", "a.csv", *LONG, *QUICK, "--test", 0, "--out", "out"]
    first = succeed_here(*command, "--group", "who", cwd=grouped)
    again = succeed_here(*command, "--group", "who", "--resume", cwd=grouped)
    assert again.partition("files: ")[2] == first.partition("files: ")[2] != ""
    refused = run_here(*command, "--drop", "who", "--resume", cwd=grouped)
    assert refused.returncode == 2 and refused.stderr.endswith("the training in out is of different groups\n")
    rows = list(rows_of(label, 40))
    written(grouped / "without.csv", HEAD, rows)
    written(grouped / "changing.csv", [*HEAD, "who"], [[*row, k] for k, row in enumerate(rows)])
    predicted = [run_here("predict", "out", name, cwd=grouped) for name in ("a.csv", "without.csv", "changing.csv")]
    assert len({each.stdout for each in predicted}) == 1 and predicted[0].stdout.count("\n") == 41


def test_groups_of_wide_tables_and_arrays(tmp_path: Path) -> None:
    wide_table(tmp_path / "wide.csv", 40)
    head, *lines = (tmp_path / "wide.csv").read_text().splitlines()
    (tmp_path / "wide.csv").write_text("\n".join([f"who,{head}", *(f"{k % 5},{line}" for k, line in enumerate(lines))]))
    options = [*QUICK, "--group", "who"]
    printed = succeed_here("fit", "regress", "wide.csv", "--target", "y", *options, "--out", "a", cwd=tmp_path)
    assert "40 sequences of 4 to 6 steps, 1 feature" in printed and "\n4 groups to train on, 1 to test on\n" in printed
    assert run_here("predict", "a", "wide.csv", cwd=tmp_path).stdout.count("\n") == 41
    x = np.random.default_rng(0).normal(size=(40, 7, 2))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2, who=np.arange(40) // 8)
    printed = succeed_here("fit", "classify", "a.npz", *options, "--out", "b", cwd=tmp_path)
    assert "\n4 groups to train on, 1 to test on\n" in printed
    assert run_here("predict", "b", "a.npz", cwd=tmp_path).stdout.count("\n") == 41


def test_faults_of_groups(grouped: Path) -> None:
    def fault(*options: object, data: str = "a.csv", group: str = "who") -> str:
        return fail_here("fit", "classify", data, *LONG, *QUICK, "--group", group, *options, cwd=grouped)

    text = (grouped / "a.csv").read_text()
    assert fault(group="person").startswith("a.csv: there is no column 'person' for group; its columns are 'id', ")
    assert fault(group="id") == "a.csv: the column 'id' is given for id and group; expected one of them"
    first = text.splitlines()[1].rpartition(",")[2]
    (grouped / "changing.csv").write_text(text.replace(first, "somebody", 1))
    assert fault(data="changing.csv") == (
        f"changing.csv: line 3: the group of 's0' is {first}, and somebody in line 2; expected one group for each id"
    )
    (grouped / "missing.csv").write_text(text.replace(first, "", 1))
    assert fault(data="missing.csv").startswith("missing.csv: line 2, column 'who': the group is missing")
    (grouped / "one.csv").write_text(re.sub("person ..*", "ann", text))
    assert fault(data="one.csv") == (
        "one.csv: there is only 1 group, 'ann'; expected one each for training, validation, the test; or give "
        "--validation 0 or --test 0"
    )
    (grouped / "classes.csv").write_text(re.sub(r"(high|low),.*", r"\1,\1", text))
    assert fault("--validation", 0, data="classes.csv").startswith("classes.csv: each group has a class that no other")
    assert fault("--test", "a.csv") == (
        f"a.csv: the group of 's0' is '{first}', which a.csv has, too; expected groups that were not trained on"
    )
    (grouped / "sounds").mkdir()
    assert fault(data="sounds").startswith("sounds: --group is for tables and .npz files, not for folders; ")
    assert sorted(path.suffix for path in grouped.iterdir()) == ["", *[".csv"] * 5]


def test_the_test_says_which_classes_it_lacks(grouped: Path) -> None:
    text = (grouped / "a.csv").read_text()
    (grouped / "one.csv").write_text(re.sub(r"low,person .*", "low,ann", text))
    printed = succeed_here("fit", "classify", "one.csv", *LONG, *QUICK, "--group", "who", "--out", "out", cwd=grouped)
    assert "note: the test has no sequence of low\n" in printed


def test_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 7, 2))
    np.savez(tmp_path / "a.npz", x=x, y=(x[:, -1, 0] > 0).astype(int), lengths=np.full(40, 7))
    np.savez(tmp_path / "narrow.npz", x=x[..., :1])
    command = ["fit", "classify", "a.npz", *QUICK, "--out", "out"]
    first = succeed_here(*command, cwd=tmp_path)
    assert "40 sequences of 7 steps, 2 features (feature 0, feature 1)\n2 classes: 0 " in first
    again = succeed_here(*command, "--resume", cwd=tmp_path)  # of a fit that has ended
    assert again.partition("on the 8 sequences")[2] == first.partition("on the 8 sequences")[2] != ""
    assert len(run_here("predict", "out", "a.npz", cwd=tmp_path).stdout.splitlines()) == 41
    message = fail_here("predict", "out", "narrow.npz", cwd=tmp_path)
    assert message == "narrow.npz: 1 feature in a step; expected 2, as in the training"


def test_a_training_that_diverges_leaves_no_empty_folder(tmp_path: Path) -> None:
    long_table(tmp_path / "a.csv")
    (tmp_path / "mine").mkdir()

    def diverged(*options: object) -> str:
        result = run_here("fit", "classify", "a.csv", *LONG, *QUICK, *options, cwd=tmp_path)
        assert result.returncode == 2 and result.stderr.count("\n") == 1
        return result.stderr.partition("; ")[2]

    for out in ([], ["--out", "new/er"], ["--out", "mine"]):
        assert diverged("--lr", 1e38, *out) == "try a smaller lr than 1e+38, with --lr\n"
    assert {path.name for path in tmp_path.rglob("*")} == {"a.csv", "mine"}
    late = diverged("--lr", 1e38, "--out", "mine", "--batch", 40, "--validation", 0)
    assert late == "try a smaller lr than 1e+38, with --lr; mine keeps the epochs before: give another --out\n"
    assert (tmp_path / "mine" / "final" / "last.safetensors").exists()


def test_options_are_those_of_the_estimator(fitted: tuple[Path, str], tmp_path: Path) -> None:
    options = ["--cell", "mgu", "--hidden-size", 5, "--num-layers", 2, "--bidirectional", "--dropout", 0.1]
    more = ["--lr", 0.005, "--batch-size", 16, "--patience", 3, "--validation", 0, "--as-is", "--seed", 4]
    table = fitted[0] / "train.csv"
    succeed_here("fit", "classify", table, *LONG, *options, *more, "--epochs", 2, "--drop", "right", cwd=tmp_path)
    classifier = load(tmp_path / "runs" / "fit" / "model.safetensors")
    assert repr(classifier) == (
        "SequenceClassifier(cell='mgu', hidden_size=5, num_layers=2, bidirectional=True, dropout=0.1, lr=0.005, "
        "batch_size=16, epochs=2, patience=3, validation=0.0, standardize=False, random_state=4)"
    )
    assert classifier.n_features_in_ == 1
    succeed_here("fit", "classify", table, *LONG, *QUICK, "--features", "right,left", cwd=tmp_path)
    assert load(tmp_path / "runs" / "fit-2" / "model.safetensors").about_["columns"]["features"] == ["right", "left"]


def test_the_model_is_one_for_all_commands(fitted: tuple[Path, str], tmp_path: Path) -> None:
    model = fitted[0] / "out" / "model.safetensors"
    assert "inputs   x (time, batch, 2) float32" in succeed_here("show", model)
    np.save(tmp_path / "x.npy", np.ones((5, 1, 2), "f"))
    printed = succeed_here("run", model, "--input", "x.npy", "--out", "output=y.npy", cwd=tmp_path)
    assert "output" in printed
    expected = tg.io.load_model(model)(tg.ones(5, 1, 2)).detach().numpy()
    assert (np.load(tmp_path / "y.npy") == expected).all()
    assert "page: page.html" in succeed_here("inspect", model, "--input", "x.npy", "--out", "page.html", cwd=tmp_path)
    succeed_here("export", model, "--to", "onnx", "--out", "a.onnx", cwd=tmp_path)
    exported = tg.io.load_model(tmp_path / "a.onnx")(tg.ones(5, 1, 2))[0].detach().numpy()
    np.testing.assert_allclose(exported, expected, atol=1e-5)


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no such signals")
def test_ctrl_c_keeps_a_model_and_says_how_to_go_on(tmp_path: Path) -> None:
    long_table(tmp_path / "train.csv", 40)
    command = ["fit", "classify", "train.csv", *LONG, "--hidden", "6", "--batch", "8", "--epochs", "300"]
    with running([*COMMAND, *command], cwd=tmp_path) as process:
        wait_for(process, "finding the number of epochs: epoch 1 ")
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "\nstopping after this step; Ctrl-C again ends at once, with the best network so far\n"
    assert "the best network so far is in runs/fit/model.safetensors" in printed
    assert len(run_here("predict", "runs/fit", "train.csv", cwd=tmp_path).stdout.splitlines()) == 41
    (resume,) = re.findall(r"resume with: (.*)\n", printed)
    refused = run_here(*shlex.split(resume)[3:], "--lr", "0.02", cwd=tmp_path)
    assert refused.returncode == 2 and refused.stderr.endswith("the training in runs/fit is of different parameters\n")
    finished = succeed(*shlex.split(resume)[3:], cwd=tmp_path)
    whole = succeed(*command, "--out", "whole", cwd=tmp_path)
    result = re.compile(r"on the 8 sequences.*(?=\nfiles)", re.DOTALL)
    assert result.findall(finished) == result.findall(whole) != []


# -- bad input ---------------------------------------------------------------------------------------------------------

GOOD: list[Row] = list(rows_of(label))


def changed(row: int, column: int, value: object) -> list[Row]:
    rows = [list(each) for each in GOOD]
    rows[row][column] = value
    return rows


def without(*columns: int) -> list[Row]:
    return [[value for place, value in enumerate(row) if place not in columns] for row in GOOD]


@pytest.mark.parametrize(
    ("head", "rows", "options", "message"),
    [
        (HEAD, GOOD, ["--target", "class"], "there is no column 'class' for target; its columns are 'id', 't', 'left'"),
        (HEAD, GOOD, ["--id", "who"], "there is no column 'who' for id; its columns are 'id', "),
        (HEAD, GOOD, ["--features", "left,up"], "there is no column 'up' for features; its columns are 'id', "),
        (HEAD, GOOD, ["--drop", "up"], "there is no column 'up' for drop; its columns are 'id', "),
        (HEAD, changed(3, 2, "nan"), [], "line 5, column 'left': the number is NaN or missing"),
        (HEAD, changed(3, 3, ""), [], "line 5, column 'right': the number is NaN or missing"),
        (HEAD, changed(3, 3, "fast"), [], "line 5, column 'right': expected a number, got 'fast'; --drop can leave"),
        (HEAD, changed(3, 4, ""), [], "line 5, column 'y': the target is missing"),
        (HEAD, changed(1, 4, "high"), [], "line 3: the target of 's0' is high, and low in line 2; expected one target"),
        (HEAD, [*GOOD[:5], GOOD[5][:4]], [], "line 7 has 4 columns, and the first has 5"),
        (
            HEAD,
            [*GOOD, ["s24", 0, 1, 1, "odd"]],
            [],
            "the class 'odd' has only 1 sequence, 's24'; expected one each for",
        ),
        (HEAD, [[*row[:4], "low"] for row in GOOD], [], "all targets are 'low'; expected at least two classes"),
        (HEAD, [[*row[:3], 7, row[4]] for row in GOOD], [], "the column 'right' is 7 in all rows, so nothing can be "),
        (
            HEAD,
            [[*row[:4], 0.5] for row in GOOD],
            [],
            "the target of 's0' is 0.5; expected classes; fit regress learns",
        ),
        (HEAD, GOOD[:3], [], "it has 1 sequence; expected several, told apart by --id"),
        (HEAD, [], [], "it has no numbers"),
        (
            HEAD,
            [row for row in GOOD if row[1] == 0],
            [],
            "every sequence has one row; if each row is a sequence, leave out --id and --time",
        ),
        (["id", "t", "y"], without(2, 3), [], "there are no columns of features"),
        (
            HEAD,
            [[*row[:3], 1.7e9 + n / 100, row[4]] for n, row in enumerate(GOOD)],
            [],
            "the column 'right' varies by only 0.393 around 1.7e+09, which float32 would round away; subtract",
        ),
    ],
)
def test_faults_are_named_before_a_training(
    head: list[str], rows: list[Row], options: list[str], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.csv", head, rows)
    assert fail_here("fit", "classify", path, *LONG, *options, cwd=tmp_path).startswith(f"{path}: {message}")
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,2,3,1.5", ",,,2.5"], "line 3: the sequence is empty"),
        (["1,2,3,1.5", "1,,3,2.5"], "line 3, column 'b': the number is NaN or missing"),
        (["1,2,3,1.5", "1,2,3,4,2.5"], "line 3 has 5 columns, and the first has 4"),
        (["1,2,3,1.5", "1,2,4,1.5", "1,2,5,1.5"], "all targets are 1.5; expected different numbers"),
        (["1,2,3,1.5", "1,2,4,tall", "1,2,5,1.5"], "the target of 'line 3' is 'tall'; expected a number; fit classify"),
        (["1,2,3,1.5", "1,2,4,inf", "1,2,5,1.5"], "the target of 'line 3' is inf; expected a number"),
        (["2,2,2,1.5", "2,2,2,2.5"], "the value is 2 in all rows, so nothing can be learnt from it"),
        (["1,2,3,1.5", "1,2,4,2.5"], "it has 2 sequences; expected one each for training, validation, the test"),
    ],
)
def test_faults_of_wide_tables_with_numbers(lines: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["a,b,c,y", *lines]) + "\n")
    assert fail_here("fit", "regress", path, "--target", "y", cwd=tmp_path).startswith(f"{path}: {message}")


def test_faults_of_options(fitted: tuple[Path, str], tmp_path: Path) -> None:
    table = fitted[0] / "train.csv"

    def fault(*options: object) -> str:
        return fail_here("fit", "classify", table, *LONG, *options, cwd=tmp_path)

    assert fault("--hidden", 0) == "--hidden: expected at least 1, got 0"
    assert fault("--lr", 0) == "--lr: expected above 0 and finite, got 0.0"
    assert fault("--test", 1.5) == "--test: expected a share from 0 to below 1, or a file, got 1.5"
    assert fault("--test", "none.csv") == "none.csv: No such file or directory"
    assert fault("--seed", -1) == "--seed: expected at least 0, got -1"
    assert fault("--cell", "lstmm").startswith("--cell: expected a cell of the atlas, such as lstm")
    assert fault("--resume") == "--resume: expected --out with it, got none"
    assert fault("--resume", "--out", "new") == "new: there is no fit to resume; leave out --resume"
    assert fault("--out", fitted[0] / "out").endswith("holds a fit; --resume continues it, or give another --out")
    assert fault("--out", table) == f"--out: expected the path of a folder, got the file {str(table)!r}"
    assert fault("--out", fitted[0] / "out" / "search").endswith("holds a run of train; give another --out")
    assert fail_here("fit", "classify", table).endswith("which column is to be predicted? give --target")
    odd = long_table(tmp_path / "odd.csv", 6)
    odd.write_text(odd.read_text().replace("low", "middle"))
    expected = f"{odd}: the target of 's0' is 'middle', which the training did not have; expected one of 'high', 'low'"
    assert fault("--test", odd) == expected
    assert fail_here("predict", fitted[0] / "out", odd) == expected
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3, 2)))
    expected = f"{tmp_path / 'a.npz'}: expected a table with the column 'id', as in the training"
    assert fail_here("predict", fitted[0] / "out", tmp_path / "a.npz") == expected
    assert run_here("predict", fitted[0] / "out", odd, "--no-score").returncode == 0
    assert not (tmp_path / "runs").exists() and not (tmp_path / "new").exists()


def test_an_unknown_class_is_named_beside_numbers(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", HEAD, rows_of(lambda k, values: k % 2))
    written(tmp_path / "odd.csv", HEAD, rows_of(lambda k, values: "odd" if k == 3 else k % 2))
    succeed_here("fit", "classify", "a.csv", *LONG, *QUICK, "--out", "out", cwd=tmp_path)
    message = "odd.csv: the target of 's3' is 'odd', which the training did not have; expected one of '0', '1'"
    assert fail_here("predict", "out", "odd.csv", cwd=tmp_path) == message


def test_classes_that_are_text_match_as_they_are_written(tmp_path: Path) -> None:
    """A further file may have only those of them that are also numbers."""
    written(tmp_path / "a.csv", HEAD, rows_of(lambda k, values: ("1.50", "up")[k % 2]))
    written(tmp_path / "b.csv", HEAD, [row for row in rows_of(lambda k, values: "1.50") if int(str(row[0])[1:]) % 2])
    printed = succeed_here("fit", "classify", "a.csv", *LONG, *QUICK, "--test", "b.csv", "--out", "out", cwd=tmp_path)
    assert "24 sequences to train on, 12 to test on" in printed
    predicted = run_here("predict", "out", "b.csv", cwd=tmp_path)
    assert predicted.returncode == 0 and ",1.50," in predicted.stdout
    (tmp_path / "c.csv").write_text((tmp_path / "b.csv").read_text().replace("1.50", "1.5"))
    message = "c.csv: the target of 's1' is '1.5', which the training did not have; expected one of '1.50', 'up'"
    assert fail_here("predict", "out", "c.csv", cwd=tmp_path) == message


def test_sounds_have_the_rate_of_the_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, rate in (("train", 8000), ("same", 8000), ("fast", 16000)):
        for k in range(12):
            path = tmp_path / folder / ("low", "high")[k % 2] / f"{k}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            with wave.open(str(path), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(rate)
                file.writeframes(rng.integers(-9000, 9000, 30).astype("<i2").tobytes())
    succeed_here("fit", "classify", "train", *QUICK, "--out", "out", cwd=tmp_path)
    assert run_here("predict", "out", "same", cwd=tmp_path).stdout.count("\n") == 13
    message = "fast: 16000 samples a second; expected 8000, as in the training"
    assert fail_here("predict", "out", "fast", cwd=tmp_path) == message
    assert fail_here("fit", "classify", "train", *QUICK, "--test", "fast", cwd=tmp_path) == message


def test_faults_of_models(fitted: tuple[Path, str], tmp_path: Path) -> None:
    table = fitted[0] / "train.csv"
    assert fail_here("predict", tmp_path / "none", table) == f"{tmp_path / 'none'}: No such file or directory"
    assert fail_here("predict", tmp_path, table) == f"{tmp_path / 'model.safetensors'}: No such file or directory"
    classifier = SequenceClassifier(hidden_size=2, epochs=1).fit(
        np.random.default_rng(0).normal(size=(9, 4)), [0, 1, 2] * 3
    )
    classifier.save(tmp_path / "other.safetensors")
    message = "it does not say which columns it was fitted on; expected a file that fit wrote"
    assert fail_here("predict", tmp_path / "other.safetensors", table).endswith(message)
    written(tmp_path / "less.csv", ["id", "t", "left", "y"], without(3))
    message = "there is no column 'right' for features; its columns are 'id', 't', 'left', 'y'"
    assert fail_here("predict", fitted[0] / "out", tmp_path / "less.csv") == f"{tmp_path / 'less.csv'}: {message}"
