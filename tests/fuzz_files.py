"""Damages files of every format that is read, and reads them: `python tests/fuzz_files.py --cases 100000`.

Each file must give arrays or a model, or one ValueError or OSError in a line of printable letters; never another
exception, a crash, more than some seconds, or more than some memory. Models are called. All this is done by another
process, which is watched.

A case is told by its number and the seed alone: `--only NUMBER` reads it again, here, and `--keep FOLDER` leaves the
files with which something went wrong. `--formats "ONNX model" Keras` reads only files of these.
"""

import argparse
import itertools
import os
import random
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fuzz_damage import STRUCTURED, bytes_changed, zip_changed
from fuzz_formats import FORMATS, whole_files

SECONDS_TO_BEGIN = 300  # that the imports and the whole files may take
SECONDS = 10  # that reading one file may take, on a machine that others use too
MEMORY = 2**29  # bytes that the process may grow by, from one file or from leaks
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a folder in which writing files is fast
AT_ONCE = 4000  # files that one process reads, so that a leak of each would show, and then another begins


class Case(NamedTuple):
    """A damaged file."""

    format: str
    name: str
    content: bytes


def format_of(number: int) -> str:
    """The format of the damaged file of a number; formats take turns."""
    return list(FORMATS)[number % len(FORMATS)]


def case(seed: int, number: int) -> Case:
    """The damaged file of a number."""
    rng = random.Random(f"{seed} {number}")
    format = format_of(number)
    name, content = rng.choice(list(whole_files()[format].items()))
    structured = STRUCTURED.get(format) or (zip_changed if content.startswith(b"PK") else None)
    if structured and rng.random() < 0.6:
        content = structured(rng, content)
    if not structured or rng.random() < 0.5:
        content = bytes_changed(rng, content)
    return Case(format, name, content)


# -- reading -----------------------------------------------------------------------------------------------------------


def outcome(read: Callable[[Path], None], path: Path) -> str:
    """What became of a file: "read", "refused", or what is wrong with how it was refused."""
    try:
        read(path)
    except (ValueError, OSError) as error:
        message = str(error)
        if type(error) is UnicodeDecodeError or not message.isprintable() or len(message) > 5000:
            return f"wrong: {type(error).__name__}, in no line of printable letters: {message[:300]!r}"
        return "refused"
    except BaseException as error:
        return f"wrong: {error!r:.300}"
    return "read"


def serve(seed: int, numbers: Sequence[int]) -> None:
    """Reads the files of some numbers, and prints what became of each, in a line."""
    import resource  # Windows does not have it

    whole_files()
    warnings.simplefilter("error")  # they would be lines as well
    warnings.filterwarnings("ignore", ".*layers that are stateful in Keras")  # what a valid file may say
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        path = Path(folder) / "model"
        print("ready", flush=True)
        for number in numbers:
            made = case(seed, number)
            path.write_bytes(made.content)
            print(f"{number} {outcome(FORMATS[made.format].read, path)}", flush=True)


def lines_of(command: Sequence[str]) -> Iterator[str]:
    """The lines that a process prints; the last says so if it ends badly, or is silent for too long."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    rest, seconds = b"", SECONDS_TO_BEGIN
    try:
        while True:
            if not select.select([process.stdout], [], [], seconds)[0]:
                yield f"wrong: hung, for {seconds} s"
                return
            seconds = SECONDS
            new = os.read(process.stdout.fileno(), 2**16)
            if not new:
                break
            *lines, rest = (rest + new).split(b"\n")
            yield from (line.decode() for line in lines)
        if process.wait():
            yield f"wrong: crashed, with status {process.returncode}"
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def numbers_of(formats: Sequence[str], first: int, cases: int) -> list[int]:
    """The numbers of so many files of some formats, from a number on."""
    return list(itertools.islice((number for number in itertools.count(first) if format_of(number) in formats), cases))


def fuzz(seed: int, formats: Sequence[str], first: int, cases: int) -> Iterator[tuple[int, str]]:
    """Reads damaged files in other processes, and returns their numbers with the outcome of each."""
    numbers = numbers_of(formats, first, cases)
    while numbers:
        at_once = ["--first", str(numbers[0]), "--cases", str(min(AT_ONCE, len(numbers)))]
        command = [sys.executable, __file__, "--serve", "--seed", str(seed), *at_once, "--formats", *formats]
        for line in lines_of(command):
            if line != "ready":  # a line without a number: the process is gone
                yield numbers.pop(0), line if line.startswith("wrong") else line.partition(" ")[2]


def main() -> int:
    """Fuzzes, and prints how many files of each format were read or refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first, to go on from there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="read the file of this number here, and show what happens")
    parser.add_argument("--keep", type=Path, help="a folder for the files with which something went wrong")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), metavar="FORMAT")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.seed, numbers_of(given.formats, given.first, given.cases))
        return 0
    if given.only is not None:
        made = case(given.seed, given.only)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "model").write_bytes(made.content)
            print(made.format, made.name, len(made.content))
            FORMATS[made.format].read(Path(folder) / "model")
        return 0
    counts: Counter[tuple[str, str]] = Counter()
    begun = time.monotonic()
    for number, what in fuzz(given.seed, given.formats, given.first, given.cases):
        format = format_of(number)
        counts[format, what.split(":")[0]] += 1
        if what.startswith("wrong"):
            print(f"{number} ({format}): {what}", flush=True)
            if given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                (given.keep / str(number)).write_bytes(case(given.seed, number).content)
        if sum(counts.values()) % 10_000 == 0:
            print(f"{sum(counts.values()):,} files, up to number {number:,}", file=sys.stderr, flush=True)
    for format in given.formats:
        read, refused, wrong = (counts[format, what] for what in ("read", "refused", "wrong"))
        print(f"{format:12} {read + refused + wrong:8,} files: {read:7,} read, {refused:7,} refused, {wrong:5,} wrong")
    total = sum(n for (_, what), n in counts.items() if what == "wrong")
    print(f"{sum(counts.values()):,} files in {time.monotonic() - begun:,.0f} s, {total:,} wrong")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
