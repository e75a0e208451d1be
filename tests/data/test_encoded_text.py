"""Texts as the ids of their characters."""

import hashlib
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lstm.data import EncodedText, TextBatches, Vocabulary, encoded_text, read_text, text, text_files

texts = st.text(min_size=1, max_size=40)
# Characters of one to four bytes in UTF-8, and what is converted when a file is read.
in_files = st.text(st.sampled_from("ab\r\n\ufeffä€😀"), max_size=40)


@contextmanager
def pieces_of(size: int) -> Iterator[None]:
    """Within this context, texts and files are converted in pieces of this size."""
    with ExitStack() as patches:
        for module in (text, text_files, encoded_text):
            patches.enter_context(mock.patch.object(module, "PIECE", size))
        yield


@given(texts, st.integers(1, 7))
def test_ids_are_those_of_the_vocabulary(whole: str, size: int) -> None:
    with pieces_of(size):
        found = EncodedText.of(whole)
        assert found.vocabulary == Vocabulary(whole)
        assert found.ids.tolist() == Vocabulary(whole).encode(whole).tolist()
        assert found.ids.dtype == np.uint8
        assert found[:] == whole and found[-1] == whole[-1] and found[1:3] == whole[1:3]
        utf8 = whole.encode("utf-8", "surrogatepass")
        assert b"".join(found.utf8()) == utf8 and found.digest == hashlib.sha256(utf8).hexdigest()


@given(st.lists(in_files, min_size=1, max_size=3), st.integers(1, 7))
def test_files_are_read_as_by_read_text(
    tmp_path_factory: pytest.TempPathFactory, contents: list[str], size: int
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    for number, content in enumerate(contents):
        (folder / f"{number}.txt").write_bytes(content.encode())
    as_python_reads = [content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n") for content in contents]
    expected = "\n".join(filter(None, as_python_reads))
    with pieces_of(size):
        if not expected:
            with pytest.raises(ValueError, match="the folder contains no text"):
                EncodedText.read(folder)
            return
        assert read_text(folder) == expected
        found = EncodedText.read(folder, characters="zz")
        assert found[:] == expected and found.vocabulary == Vocabulary(expected + "z")
        (folder / "whole").write_bytes(expected.encode())
        assert EncodedText.read_utf8(folder / "whole")[:] == expected


@given(st.binary(max_size=12), st.integers(1, 5))
def test_bytes_that_are_not_text_are_named_at_any_size_of_pieces(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, size: int
) -> None:
    path = tmp_path_factory.mktemp("texts") / "a.txt"
    path.write_bytes(b"a" + content)
    try:
        path.read_bytes().decode()
    except UnicodeDecodeError as error:
        with pieces_of(size), pytest.raises(ValueError, match=f"at offset {error.start}$"):
            read_text(path)


@given(texts, texts, st.integers(1, 7))
def test_a_different_vocabulary(whole: str, more: str, size: int) -> None:
    with pieces_of(size):
        larger = Vocabulary(whole + more)
        found = EncodedText.of(whole, larger)
        assert found.vocabulary == larger and found.ids.tolist() == larger.encode(whole).tolist()
        smaller = Vocabulary(more)
        if unknown := [at for at, character in enumerate(whole) if character not in more]:
            with pytest.raises(ValueError) as raised:
                found.with_vocabulary(smaller)
            assert f"character {whole[unknown[0]]!r} at position {unknown[0]} is not among" in str(raised.value)
            kept = found.with_vocabulary(smaller, unknown="skip")
            assert kept[:] == "".join(character for character in whole if character in more)
        else:
            assert found.with_vocabulary(smaller)[:] == whole


@pytest.mark.parametrize(("number", "dtype"), [(256, np.uint8), (257, np.uint16), (65537, np.uint32)])
def test_ids_take_as_few_bytes_as_the_vocabulary_needs(number: int, dtype: type) -> None:
    whole = "".join(map(chr, range(number)))
    found = EncodedText.of(whole)
    assert found.ids.dtype == dtype and found.ids.tolist() == list(range(number))
    assert found[number - 2 :] == whole[number - 2 :]


def test_ids_of_a_very_long_text_are_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_text, "MOST_IN_MEMORY", 10)
    found = EncodedText.of("to be or not to be")
    assert isinstance(found.ids.base, np.memmap)
    assert found[:] == "to be or not to be"
    batches = TextBatches(found.ids, batch=2, seq_len=4)
    plain = TextBatches(found.vocabulary.encode("to be or not to be"), batch=2, seq_len=4)
    for mine, expected in zip(batches, plain, strict=True):
        assert mine.inputs.dtype == mine.targets.dtype == np.int64
        np.testing.assert_array_equal(mine.inputs, expected.inputs)
        np.testing.assert_array_equal(mine.targets, expected.targets)


def test_a_text_takes_less_than_twice_its_size(tmp_path: Path) -> None:
    size = 2**23
    (tmp_path / "a.txt").write_bytes(b"0123456789abcdef" * (size // 16))
    with pieces_of(2**16):
        tracemalloc.start()
        try:
            found = EncodedText.read(tmp_path)
            next(iter(TextBatches(found.ids, batch=32, seq_len=64)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(found) == size and peak < 2 * size


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    for after in (b"abab", b"ab", b"abc", b"\xff"):
        path.write_bytes(b"aba")
        opened = 0

        def open_file(given: Path, after: bytes = after) -> object:
            nonlocal opened
            opened += 1
            if opened == 2:
                path.write_bytes(after)
            return open(given, "rb", opener=os.open)

        monkeypatch.setattr(text_files, "open_file", open_file)
        with pytest.raises(ValueError, match=r"changed while it was read; try again|not UTF-8 text"):
            EncodedText.read(path)


def test_an_empty_text() -> None:
    with pytest.raises(ValueError, match="the text is empty"):
        EncodedText.of("")
