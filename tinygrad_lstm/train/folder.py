"""The folder of a run: its files, and the order in which they are written."""

import contextlib
import errno
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from ..data.encoded_text import EncodedText
from ..files import open_file, read_file
from ..io.atomic import lock, naming_errors, write_atomically
from ..metrics import read_metrics
from .checkpoint import Checkpoint

__all__ = ["TEXT_DIGEST", "RunFolder", "digest", "newest_folder", "next_folder"]

TEXT_DIGEST = "text_digest"
"""The entry of `Checkpoint.about` with the digest of the run's text."""

PRIVATE = 0o600
"""Permissions of the saved text, which may come from a file that others must not read."""


class RunFolder:
    """The files of one run.

    All other files can be made again from `last` and the text. So a run replaces an earlier one at the moment when
    `last` is moved into place: the other files are written before under temporary names, and moved after. If the
    program is killed in between, `complete` finishes this.

    Args:
        path: the folder.
        content: the text that the run trains on, if it is one.
    """

    def __init__(self, path: str | Path, content: EncodedText | None = None) -> None:
        self.path = Path(path)
        self._content = content
        self._text_is_kept = False
        self.last = self.path / "last.safetensors"
        """The checkpoint of the last validation, or of the end."""
        self.best = self.path / "best.safetensors"
        """The checkpoint with the lowest validation loss."""
        self.metrics = self.path / "metrics.jsonl"
        """Each report as a line of JSON."""
        self.plot = self.path / "loss.png"
        """The loss curve."""
        self.text = self.path / "text.utf8"
        """The text that the model is trained on, so that the run can be resumed. Its suffix is not that of texts, so
        that it is not read as one if the folder contains texts as well."""
        self.page = self.path / "page.html"
        """The page of the command `inspect`."""

    def make(self) -> None:
        """Makes the folder if it does not exist.

        Raises:
            OSError: it cannot be made or written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with naming_errors(self.path), tempfile.TemporaryFile(dir=self.path):
            pass  # so that errors are raised now, not at the first checkpoint

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """Makes the folder. An error within this context removes it if it is new and has no checkpoint.

        Raises:
            OSError: as `make`.
        """
        new = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            self.make()
            yield
        except BaseException:
            if new and not self.last.exists():
                with contextlib.suppress(OSError):
                    self.metrics.unlink(missing_ok=True)
                    for path in new:
                        path.rmdir()
            raise

    def is_used(self) -> bool:
        """Whether the folder has files of a run."""
        return any(path.exists() for path in (self.last, self.best, self.metrics, self.plot))

    def check_links(self) -> None:
        """Raises ValueError if a file is a symbolic link: in an untrusted folder it could point anywhere."""
        for path in (self.last, self.best, self.metrics, self.plot, self.text, self.page, *self._all_prepared()):
            if path.is_symlink():
                raise ValueError(f"{path}: a symbolic link; expected a file of the run itself")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Within this context, no other trainer may write to the folder.

        Raises:
            OSError: a different trainer has locked it.
            ValueError: a file is a symbolic link.
        """
        self.check_links()
        if sys.platform == "win32":  # it has no locks on folders
            yield
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            if lock(descriptor) is False:
                raise OSError(errno.EBUSY, "another training is writing into this folder", str(self.path))
            yield
        finally:
            os.close(descriptor)

    def read_text(self, text_digest: str) -> EncodedText:
        """The saved text of a run, which has this digest.

        Raises:
            OSError: it does not exist or cannot be read.
            ValueError: it is a different text, or not a regular file.
        """
        if _digest_of_file(self.text) != text_digest:
            raise ValueError(f"{self.text}: not the text that this run was started with")
        return EncodedText.read_utf8(self.text)

    def keep_text(self) -> None:
        """Saves the run's text, if it has one that is not saved yet.

        Raises:
            OSError: it cannot be written.
        """
        if self._content is None:
            return
        if not (self.text.exists() and _digest_of_file(self.text) == self._content.digest):
            write_atomically(self.text, self._content.utf8(), PRIVATE)
        self._text_is_kept = True

    def append(self, line: str) -> None:
        """Appends a line to the metrics.

        Raises:
            OSError: it cannot be written.
        """
        with naming_errors(self.metrics), open(self.metrics, "a", encoding="utf-8") as file:
            file.write(line)

    def rewind(self, step: int) -> None:
        """Removes the lines of the metrics that are from after a step.

        Raises:
            OSError: the metrics cannot be read or written.
            ValueError: a line is invalid.
        """
        kept = [line for line in read_metrics(self.metrics) if line["step"] <= step]
        write_atomically(self.metrics, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def save(self, checkpoint: Checkpoint, best: Checkpoint | None) -> None:
        """Saves a checkpoint of the folder's run, or of its first one, and the best one if it is new.

        The best one may be the same checkpoint.

        Raises:
            OSError: a file cannot be written; existing files are unchanged.
        """
        if not self._text_is_kept:
            self.keep_text()
        data = checkpoint.encoded()
        if best is not None:
            write_atomically(self.best, data if best is checkpoint else best.encoded())
        write_atomically(self.last, data)

    def replace(self, checkpoint: Checkpoint, best: Checkpoint | None, metrics: str) -> None:
        """Saves the first checkpoint of a run that replaces the folder's run.

        Raises:
            OSError: a file cannot be written; either the earlier run is unchanged, or the new one can be resumed.
        """
        data = checkpoint.encoded()
        if self._content is not None:
            write_atomically(_prepared(self.text, data), self._content.utf8(), PRIVATE)
        if best is not None:
            write_atomically(_prepared(self.best, data), data if best is checkpoint else best.encoded())
        write_atomically(_prepared(self.metrics, data), metrics.encode())
        write_atomically(self.last, data)
        self.complete()

    def complete(self) -> None:
        """Moves the files that were prepared for `last` into place, and removes other prepared files.

        Raises:
            OSError: a file cannot be written or moved.
            ValueError: `last` is damaged.
        """
        leftovers = self._all_prepared()
        if not leftovers:
            return
        data = read_file(self.last) if self.last.exists() else b""
        if _prepared(self.metrics, data) in leftovers:  # it is the last one that is moved
            checkpoint = Checkpoint.load(self.last)
            if checkpoint.best is None:
                self.best.unlink(missing_ok=True)
            if TEXT_DIGEST not in checkpoint.about:
                self.text.unlink(missing_ok=True)
            self.plot.unlink(missing_ok=True)
            for path in (self.text, self.best, self.metrics):
                if _prepared(path, data).exists():
                    os.replace(_prepared(path, data), path)
        for path in leftovers:
            path.unlink(missing_ok=True)

    def _all_prepared(self) -> list[Path]:
        return [path for path in self.path.glob(".*.next") if _PREPARED.fullmatch(path.name)]


_PREPARED = re.compile(r"\.(text\.utf8|best\.safetensors|metrics\.jsonl)\.[0-9a-f]{16}\.next")


def _prepared(path: Path, last: bytes) -> Path:
    """The path of a file that waits until `last` has this content."""
    return path.with_name(f".{path.name}.{digest(last)[:16]}.next")


def digest(data: bytes) -> str:
    """A digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def _digest_of_file(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def next_folder(base: Path) -> Path:
    """Makes the folder of a new run: base, base-2, base-3, ..., the first one after all that exist.

    Several programs that call this at the same time get different folders.

    Raises:
        OSError: it cannot be made.
    """
    base.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1 + max(_numbered(base), default=0)):
        path = base if number == 1 else base.with_name(f"{base.name}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            break
    return path


def newest_folder(base: Path) -> Path | None:
    """The folder with the highest number among base, base-2, ... that have a checkpoint; None if there is none."""
    numbered = _numbered(base)
    holding = [number for number, path in numbered.items() if RunFolder(path).last.exists()]
    return numbered[max(holding)] if holding else None


def _numbered(base: Path) -> dict[int, Path]:
    pattern = re.compile(re.escape(base.name) + r"(?:-([2-9]|[1-9][0-9]+))?")
    paths = base.parent.iterdir() if base.parent.is_dir() else ()
    return {int(found[1] or 1): path for path in paths if (found := pattern.fullmatch(path.name))}
