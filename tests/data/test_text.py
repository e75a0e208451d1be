"""Text: vocabularies, reading files, the split, and batches of parallel streams."""

import bz2
import errno
import gzip
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinygrad_lstm.data import TextBatches, Vocabulary, characters_needed, manual_text, read_text, split_text

texts = st.text(min_size=1, max_size=60)


@given(texts, st.data())
def test_vocabulary_round_trip(text: str, data: st.DataObject) -> None:
    vocabulary = Vocabulary(text)
    assert vocabulary.characters == "".join(sorted(set(text)))
    part = data.draw(st.text(st.sampled_from(text)))
    ids = vocabulary.encode(part)
    assert ids.dtype == np.int64 and ids.shape == (len(part),)
    assert vocabulary.decode(ids.tolist()) == part
    assert Vocabulary(vocabulary.characters) == vocabulary


@given(texts, st.characters(), st.data())
def test_vocabulary_names_the_first_unknown_character(text: str, unknown: str, data: st.DataObject) -> None:
    known = text.replace(unknown, "")
    assume(known)
    before = data.draw(st.text(st.sampled_from(known)))
    with pytest.raises(ValueError) as raised:
        Vocabulary(known).encode(before + unknown + known + unknown)
    assert f"character {unknown!r} at position {len(before)} " in str(raised.value)


@given(texts, st.text(), st.data())
def test_unknown_characters_are_left_out_where_that_is_asked_for(known: str, text: str, data: st.DataObject) -> None:
    mixed = "".join(data.draw(st.permutations(known + text)))
    vocabulary = Vocabulary(known)
    kept = "".join(character for character in mixed if character in known)
    assert vocabulary.decode(vocabulary.encode(mixed, unknown="skip")) == vocabulary.known(mixed) == kept


def test_what_to_do_with_unknown_characters_is_error_or_skip() -> None:
    with pytest.raises(ValueError, match="'error' or 'skip', got 'replace'"):
        Vocabulary("ab").encode("c", unknown="replace")  # type: ignore[arg-type]


def test_vocabulary_takes_lone_surrogates_for_unknown_characters() -> None:
    # What a shell passes on as undecodable bytes.
    with pytest.raises(ValueError, match=r"'\\udcff' at position 1 "):
        Vocabulary("ab").encode("a\udcff")


def test_vocabulary_decodes_only_its_own_numbers() -> None:
    with pytest.raises(IndexError, match="from 0 to 1, got 2"):
        Vocabulary("ab").decode([0, 2])
    with pytest.raises(IndexError, match="got -1"):
        Vocabulary("ab").decode([-1])


def test_an_empty_text_has_no_vocabulary() -> None:
    with pytest.raises(ValueError, match="empty"):
        Vocabulary("")


# -- files ------------------------------------------------------------------------------------------------------------


def test_reads_files_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("\ufeffzwölf\r\nBoxkämpfer\r".encode())
    (tmp_path / "a").write_bytes(b"two")
    assert read_text(tmp_path / "b.txt") == "zwölf\nBoxkämpfer\n"
    assert read_text([str(tmp_path / "b.txt"), tmp_path / "a"]) == "zwölf\nBoxkämpfer\n\ntwo"


def test_reads_the_text_files_of_a_folder_sorted(tmp_path: Path) -> None:
    for name, content in {
        "b.txt": "B",
        "a.md": "A",
        "sub/c.TXT": "C",
        "empty.txt": "",
        "image.png": "\0",
        ".hidden.txt": "H",
        ".git/d.txt": "D",
    }.items():
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert read_text(tmp_path / "texts") == "A\nB\nC"


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".BZ2", bz2.compress), (".xz", lzma.compress)]
)
def test_compressed_files_are_read(tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"book.txt{suffix}"
    path.write_bytes(compress("ein Bär\r\n".encode()))
    (tmp_path / f"other{suffix}").write_bytes(b"not a text, by its name")
    assert read_text(path) == read_text(tmp_path) == "ein Bär\n"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"book\.txt{suffix}: not a whole {suffix} file"):
        read_text(path)
    path.write_bytes(b"ein text")
    with pytest.raises(ValueError, match=rf"book\.txt{suffix}: not a whole {suffix} file"):
        read_text(path)


def test_any_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    for encoding in ("latin-1", "utf-16", "cp1252"):
        path.write_bytes("Bär".encode(encoding))
        assert read_text(path, encoding=encoding) == "Bär"
    with pytest.raises(ValueError, match=r"book\.txt: not ascii text: byte 0xe4 at offset 1"):
        read_text(path, encoding="ascii")
    for unknown in ("klingon", "base64", "a\0b", ""):
        with pytest.raises(ValueError, match=r"encoding: expected one that Python knows, such as .*, got "):
            read_text(path, encoding=unknown)


def test_a_folder_below_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("A")
    for name in ("sub", ".hidden"):
        (tmp_path / name).mkdir()
    scandir = os.scandir

    def closed(refused: str) -> None:
        def scan(path: str) -> object:
            if Path(path).name == refused:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", scan)

    closed("sub")
    with pytest.raises(PermissionError, match="sub"):
        read_text(tmp_path)
    closed(".hidden")
    assert read_text(tmp_path) == "A"


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1), st.binary())
def test_undecodable_bytes_are_named_with_file_and_offset(
    tmp_path_factory: pytest.TempPathFactory, text: str, rest: bytes
) -> None:
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_bytes(text.encode() + b"\xff" + rest)
    with pytest.raises(ValueError) as raised:
        read_text(path)
    assert str(raised.value) == f"{path}: not UTF-8 text: byte 0xff at offset {len(text.encode())}"


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        read_text(tmp_path / "none.txt")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match=r"empty\.txt: the file is empty"):
        read_text([tmp_path / "empty.txt"])
    with pytest.raises(ValueError, match=r"contains no text; expected files ending in \.txt"):
        read_text(tmp_path)
    with pytest.raises(ValueError, match="no paths"):
        read_text([])


def test_the_manual_is_long_and_the_same_each_time() -> None:
    text = manual_text()
    assert len(text) > 100_000
    assert "statement" in text
    assert manual_text() == text


def test_a_python_without_its_manual_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(RuntimeError, match="give a text with --data FILE"):
        manual_text()


# -- batches ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 3_000_000))
def test_split_keeps_all_and_holds_a_tenth_back(length: int) -> None:
    training, validation = split_text("x" * length)
    assert len(training) + len(validation) == length
    assert len(validation) == min(length // 10, 131_072)


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_characters_needed_are_enough_and_one_fewer_is_not(batch: int, seq_len: int) -> None:
    needed = characters_needed(batch, seq_len)
    training, validation = split_text("x" * needed)
    assert len(training) > batch * seq_len and len(validation) >= 2
    training, validation = split_text("x" * (needed - 1))
    assert len(training) <= batch * seq_len or len(validation) < 2


@st.composite
def readers(draw: st.DrawFn) -> tuple[np.ndarray, TextBatches, int, int]:
    batch, seq_len = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    ids = np.arange(draw(st.integers(batch * seq_len + 1, 150)))
    return ids, TextBatches(ids, batch, seq_len), batch, seq_len


@given(readers())
def test_an_epoch_covers_the_text_once(reader: tuple[np.ndarray, TextBatches, int, int]) -> None:
    ids, batches, batch, _ = reader
    windows = list(batches)
    assert len(windows) == len(batches)
    targets = np.sort(np.concatenate([window.targets.ravel() for window in windows]))
    assert np.array_equal(targets, ids[1 : len(targets) + 1])
    assert len(ids) - 1 - len(targets) < batch


@given(readers(), st.integers(2, 3))
def test_streams_continue_from_batch_to_batch(reader: tuple[np.ndarray, TextBatches, int, int], epochs: int) -> None:
    _, batches, batch, seq_len = reader
    windows = [window for number in range(epochs) for window in batches.epoch(number)]
    for number, window in enumerate(windows):
        inputs, targets, first = window
        assert inputs.dtype == targets.dtype == np.int64
        assert inputs.shape == targets.shape == (len(inputs), batch)
        assert 1 <= len(inputs) <= seq_len
        assert np.array_equal(targets, inputs + 1)
        assert first == (number % len(batches) == 0)
        if not first:
            assert np.array_equal(inputs[0], windows[number - 1].targets[-1])
    lengths = {len(window.inputs) for window in windows}
    assert max(lengths) - min(lengths) <= 1


@given(readers(), st.data())
def test_an_epoch_begins_at_any_window(reader: tuple[np.ndarray, TextBatches, int, int], data: st.DataObject) -> None:
    batches = reader[1]
    start = data.draw(st.integers(0, len(batches)))
    rest = list(batches.epoch(data.draw(st.integers(0, 3)), start))
    assert len(rest) == len(batches) - start == len(batches[start:])
    for mine, theirs, number in zip(rest, batches[start:], range(start, len(batches)), strict=True):
        assert np.array_equal(mine.inputs, theirs.inputs) and np.array_equal(mine.targets, batches[number].targets)
        assert mine.first == (number == 0) and mine.weight == mine.targets.size


def test_too_short_a_text_is_refused() -> None:
    assert len(TextBatches(np.arange(13), batch=3, seq_len=4)) == 1
    with pytest.raises(ValueError, match=r"12 characters are too few .* expected at least 13"):
        TextBatches(np.arange(12), batch=3, seq_len=4)
    with pytest.raises(ValueError, match="expected batch to be at least 1, got 0"):
        TextBatches(np.arange(12), batch=0, seq_len=4)
