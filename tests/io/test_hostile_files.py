"""Files made to do harm, and damaged ones: refused in a line that names them, nothing run, memory bounded."""

import copyreg
import io
import os
import pickle
import pickletools
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_files import ROLES, write_hdf5
from torch_pickles import REBUILD, archive, dictionary, legacy, number, storage, tensor, text

from tinygrad_lstm.io import load_weights, save_weights
from tinygrad_lstm.io.recognition import recognised

FILES = Path(__file__).parents[1] / "golden" / "files"

R = TypeVar("R")

# What reading may take: so much for each byte of the file, and this much beside, which is that of the interpreter.
MEMORY_A_BYTE = 20
MEMORY = 2**20


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """All that is imported for reading, which is not to be taken for the files' own memory."""
    for name in ("lstm.pt", "float16.safetensors", "onnx_lstm.onnx", "keras_lstm.keras"):
        load_weights(FILES / name)


def in_little_memory(file_size: int, call: Callable[[], R]) -> R:
    """What a call returns; checks that it takes not much more memory than the size of a file.

    The test runner's own thread may take some meanwhile, but not each time.
    """
    peaks: list[int] = []
    while len(peaks) < 3 and not (peaks and peaks[-1] <= MEMORY_A_BYTE * file_size + MEMORY):
        tracemalloc.start()
        try:
            result = call()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert min(peaks) <= MEMORY_A_BYTE * file_size + MEMORY
    return result


def read(path: Path, content: bytes) -> str:
    """Why a file cannot be read; nothing if it can."""
    path.write_bytes(content)

    def reason() -> str:
        try:
            load_weights(path)
        except (OSError, ValueError) as error:
            assert type(error) in (OSError, ValueError)
            return str(error)
        return ""

    message = in_little_memory(len(content), reason)
    assert message.startswith(f"{path}: ") or not message
    assert "\n" not in message and len(message) < 1000
    return message.removeprefix(f"{path}: ")


# --- Pickles that call something ------------------------------------------------------------------

SYSTEM = b"cos\nsystem\n"

Opcodes = Callable[[bytes], bytes]


def mapped(new: bytes) -> Opcodes:
    """bytes(map(os.system, [command])), with this opcode for both calls."""
    return lambda command: (
        b"cbuiltins\nbytes\ncbuiltins\nmap\n" + SYSTEM + b"](" + command + b"e\x86" + new + b"\x85" + new
    )


def set_state(command: bytes) -> bytes:
    """An object that is given os.system as the method for its state, and then the command as its state."""
    return b"ccollections\nOrderedDict\n)R" + dictionary({"__setstate__": SYSTEM}) + b"b" + command + b"b"


# Opcodes that run a command, which is given as the opcode that pushes it, when Python reads them, and why they are
# refused here.
CALLS: dict[str, tuple[Opcodes, str]] = {
    "REDUCE": (lambda command: SYSTEM + command + b"\x85R", "refuses to call 'os.system'"),
    "STACK_GLOBAL": (
        lambda command: text("os") + text("system") + b"\x93" + command + b"\x85R",
        "refuses to call 'os.system'",
    ),
    "partial": (
        lambda command: b"cfunctools\npartial\n" + SYSTEM + command + b"\x86R)R",
        "refuses to call 'functools.partial'",
    ),
    "INST": (lambda command: b"(" + command + b"ios\nsystem\n", "refuses the pickle opcode INST"),
    "OBJ": (lambda command: b"(" + SYSTEM + command + b"o", "refuses the pickle opcode OBJ"),
    "NEWOBJ": (mapped(b"\x81"), "refuses to call 'builtins.map'"),
    "NEWOBJ_EX": (mapped(b"}\x92"), "refuses the pickle opcode NEWOBJ_EX"),
    "BUILD": (set_state, "refuses to give a state to an empty dictionary"),
    "EXT1": (lambda command: b"\x82\xc8" + command + b"\x85R", "refuses the pickle opcode EXT1"),
    "EXT2": (lambda command: b"\x83\xc8\x00" + command + b"\x85R", "refuses the pickle opcode EXT2"),
    "EXT4": (lambda command: b"\x84\xc8\x00\x00\x00" + command + b"\x85R", "refuses the pickle opcode EXT4"),
}


@pytest.fixture
def extension() -> Iterator[None]:
    """Number 200 stands for os.system."""
    copyreg.add_extension("posix", "system", 200)
    yield
    copyreg.remove_extension("posix", "system", 200)


@pytest.mark.skipif(os.name != "posix", reason="the commands are those of a POSIX shell")
@pytest.mark.parametrize("opcode", CALLS)
def test_nothing_is_called(tmp_path: Path, extension: None, opcode: str) -> None:
    marker = tmp_path / "called"
    make, reason = CALLS[opcode]
    call = make(text(f"touch {marker}"))
    for content in (archive(call), legacy(call), archive(dictionary({"a": tensor(), "b": call}))):
        assert read(tmp_path / "model.pt", content).startswith(reason)
        assert not marker.exists()
    pickle.loads(b"\x80\x04" + call + b".")
    assert marker.exists()  # it would have been seen


@pytest.mark.parametrize(
    "name",
    [
        *("builtins\ngetattr", "__builtin__\neval", "torch.hub\nload", "numpy\nload", "_codecs\ndecode", "torch\nload"),
        *("torch._utils\n_rebuild_device_tensor_from_numpy", "torch._tensor\n_rebuild_from_type", "torch\nSizes"),
        *("torch.nn.modules.rnn\nLSTM", "collections\nUserDict", "torch.jit._pickle\nbuild_tensor_from_id"),
    ],
)
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    shown = name.replace("\n", ".")
    message = read(tmp_path / "model.pt", archive(b"c" + name.encode() + b"\n)R"))
    assert message.startswith(f"refuses to call '{shown}': only tensors, dictionaries and plain values are read")


def test_what_would_be_called_later_is_left_out(tmp_path: Path) -> None:
    made = b"ctorch._tensor\n_rebuild_from_type_v2\n(" + SYSTEM + SYSTEM + b"(" + text("true") + b"tNtR"
    assert "damaged" in read(tmp_path / "model.pt", archive(made))
    inert = dictionary({"a": tensor(), "b": SYSTEM, "c": b"ccollections\ndefaultdict\n" + SYSTEM + b"\x85R"})
    assert read(tmp_path / "model.pt", archive(inert)) == ""


def test_names_from_a_file_do_not_break_a_line(tmp_path: Path) -> None:
    call = text("os\n\x1b[31m") + text("x" * 500) + b"\x93)R"
    assert read(tmp_path / "model.pt", archive(call)).startswith(r"refuses to call 'os\n\x1b[31m.xxx")


def test_names_are_short(tmp_path: Path) -> None:
    """Joining the parts of one takes time, as often as it is called."""
    assert read(tmp_path / "model.pt", archive(b"c__torch__\n" + b"x" * 2000 + b"\n)R")) == "damaged: a name has no end"
    call = text("__torch__") + text("x" * 2000) + b"\x93)R"
    assert read(tmp_path / "model.pt", archive(call)) == "damaged: a name is not valid"


# --- Pickles that take memory or time -------------------------------------------------------------

N = 40_000


def repeated(start: bytes, opcodes: bytes, end: bytes = b"") -> bytes:
    return start + opcodes * (N // len(opcodes)) + end


TENSOR = tensor() + b"q\x00"  # memo 0
ORDERED = b"ccollections\nOrderedDict\n"
KEYS = [text(f"{k:x}") for k in range(N // 10)]
MANY = b"}(" + b"".join(key + b"h\x00" for key in KEYS) + b"u"
PAIRS = b"](" + b"NN\x86" * (N // 6) + b"e"
NONES = b"}(" + b"NN" * (N // 4) + b"u"
TWICE = [
    b"}(" + text("a") + b"h" + bytes([k]) + text("b") + b"h" + bytes([k]) + b"uq" + bytes([k + 1]) for k in range(60)
]
NUMPY = b"cnumpy._core.multiarray\n_reconstruct\nq\x01cnumpy\ndtype\n(U\x02u1\x89\x88tRq\x02"
NUMPY_ARRAY = b"h\x01)R(K\x01" + number(N) + b"\x85h\x02\x89h\x03tb"

GREEDY = {
    "containers": repeated(b"", b"]"),
    "dictionaries": repeated(b"", b"}"),
    "sets": repeated(b"", b"\x8f"),
    "nested tuples": repeated(b"N", b"\x85"),
    "nested lists": repeated(b"", b"]") + b"a" * (N - 1),
    "marks": repeated(b"", b"("),
    "duplicates": repeated(TENSOR, b"2"),
    "memo": repeated(b"N", b"\x94"),
    "large memo index": b"Nr\xff\xff\xff\xff",
    "large text": b"X\xff\xff\xff\xff",
    "large bytes": b"\x8e" + struct.pack("<Q", 2**62),
    "large number": b"\x8b" + struct.pack("<i", N) + b"\x7f" * N,
    "negative length": b"\x8b\xff\xff\xff\xff",
    "number as a key": b"}" + b"\x8b" + struct.pack("<i", N) + b"\x7f" * N + tensor() + b"s",
    "keys of one hash": b"}(" + b"".join(number(k * (2**61 - 1)) + b"N" for k in range(N // 16)) + b"u",
    "names": repeated(text("m" * 900) + b"q\x00" + text("n") + b"q\x01", b"h\x00h\x01\x93"),
    "one list as many dictionaries": repeated(PAIRS + b"q\x00" + ORDERED + b"q\x01", b"h\x01h\x00\x85R"),
    "one dictionary as many": repeated(NONES + b"q\x00ccollections\nCounter\nq\x01", b"h\x01h\x00\x85R"),
    "one state for many": repeated(NONES + b"q\x00" + ORDERED + b")R", b"h\x00b"),
    "one tuple as many arguments": repeated(b"(" + b"N" * (N // 2) + b"tq\x00" + REBUILD + b"q\x01", b"h\x01h\x00R"),
    "many tensors of one": repeated(tensor()[:-1] + b"q\x00" + REBUILD + b"q\x01", b"h\x01h\x00R"),
    "one tensor at many places": repeated(TENSOR + b"](", b"h\x00", b"e"),
    "one tensor under many keys": TENSOR + MANY,
    "a wide key before long ones": TENSOR
    + text("k" * N)
    + (b"q\x01}" + text("\U0001f600") + b"}h\x01" * 9 + MANY + b"s" * 10),
    "long keys, again and again": TENSOR + text("k" * N) + b"q\x01" + b"}h\x01" * 50 + MANY + b"s" * 50,
    "keys that are no names": text("k" * N + "\ud800") + b"q\x00]q\x01}(" + b"h\x00h\x01" * (N // 4) + b"u",
    "many storages": b"".join(storage(str(k)) for k in range(N // 60)),
    "large shape": REBUILD + b"(" + storage() + b"K\x00(" + b"K\x01" * N + b"tK\x01\x85\x89NtR",
    "one dictionary within another twice, and so on": TENSOR + b"".join(TWICE),
    "the same without a tensor": b"}q\x00" + b"".join(TWICE),
    "one text as many arrays": repeated(NUMPY + text("x" * N) + b"q\x03](", NUMPY_ARRAY, b"e"),
}  # fmt: skip


@pytest.mark.parametrize("kind", GREEDY)
@pytest.mark.parametrize("write", [archive, legacy])
def test_pickles_take_little_memory(tmp_path: Path, kind: str, write: Callable[[bytes], bytes]) -> None:
    read(tmp_path / "model.pt", write(GREEDY[kind]))


def test_values_beside_the_arrays_take_no_room_for_names(tmp_path: Path) -> None:
    pairs = b"](" + b"K\x01K\x02\x86" * 8000 + b"e"
    assert read(tmp_path / "model.pt", archive(dictionary({"a": tensor(), "merges" * 30: pairs}))) == ""


def test_a_dictionary_of_dictionaries_is_named_in_a_few_words(tmp_path: Path) -> None:
    """One that is a key of the next five times over, and so on, would fill a page, after minutes."""
    levels = [b"}q" + bytes([k + 1]) + b"(" + (b"h" + bytes([k]) + b"N") * 5 + b"u" for k in range(20)]
    message = read(tmp_path / "model.pt", archive(b"}q\x00" + b"".join(levels)))
    assert message == "it holds no array that has a name, but a dictionary of " + ", ".join(["a dictionary"] * 5)


def test_networks_that_share_their_arrays_take_memory_one_by_one(tmp_path: Path) -> None:
    """A thousand in a file of the size of one: `tinygrad-lstm show` looks at each."""
    shared = tensor(storage(size=64 * 16), shape=(64, 16), strides=(16, 1)) + b"q\x000"
    names = [f"{k}.weight_{of}_l0" for k in range(1000) for of in ("ih", "hh")]
    content = archive(shared + dictionary(dict.fromkeys(names, b"h\x00")), {"0": bytes(4 * 64 * 16)})
    (tmp_path / "model.pt").write_bytes(content)
    weights = load_weights(tmp_path / "model.pt")
    found = in_little_memory(len(content), lambda: [str(each.network) for each in recognised(weights)])
    assert found == ["LSTM(16, 16)"] * 1000


def test_networks_within_networks_do_not_name_all_that_are_below(tmp_path: Path) -> None:
    """What is said of a file would grow with the cube of their number: 88 MB of these."""
    prefixes = ["a." * depth for depth in range(400)]
    arrays = {f"{prefix}weight_{of}_l0": np.ones((4, 1), "f4") for prefix in prefixes for of in ("ih", "hh")}
    save_weights(tmp_path / "a.safetensors", arrays)
    weights = load_weights(tmp_path / "a.safetensors")
    reasons = [found.reason for found in sorted(recognised(weights), key=lambda found: found.prefix)]
    assert len(reasons) == 400 and sum(map(len, reasons)) < 20 * (tmp_path / "a.safetensors").stat().st_size
    assert reasons[-2].endswith(f"extra: {prefixes[-1]}weight_hh_l0, {prefixes[-1]}weight_ih_l0")
    assert reasons[0].endswith(", and others") and not reasons[-1]


def test_layers_of_keras_within_layers_do_not_name_all_that_are_below(tmp_path: Path) -> None:
    paths = ["a/" * depth for depth in range(1, 60)]
    arrays = {f"{path}{role}:0": np.ones((1, 4), "f4") for path in paths for role in ROLES[:2]}
    texts = {"/": {"layer_names": [b"a"], "keras_version": "2.15.0"}}
    weights = load_weights(write_hdf5(tmp_path / "a.h5", arrays, texts))
    assert len(weights.layers) == 59 and max(len(each.unsupported) for each in weights.layers.values()) <= 4


def test_a_pickle_is_not_larger_than_its_file(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("model/data.pkl", b"]" * 500_000 + b".")
    assert "its data.pkl unpacks to more than the whole file" in read(tmp_path / "model.pt", file.getvalue())


# --- Archives -------------------------------------------------------------------------------------

ARRAY = io.BytesIO()
np.save(ARRAY, np.zeros(3, np.float32))
NPY = ARRAY.getvalue()


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


class Entry(NamedTuple):
    """A file in a zip archive, and what is said of it, which may be wrong."""

    name: bytes = b"a.npy"
    content: bytes = NPY
    size: int | None = None
    checksum: int | None = None
    method: int = 0
    flags: int = 0
    start: int | None = None  # where it is said to begin
    extra: bytes = b""  # between its header and its content


def zipped(*entries: Entry) -> bytes:
    files = directory = b""
    for entry in entries:
        size = len(entry.content) if entry.size is None else entry.size
        checksum = zlib.crc32(entry.content) if entry.checksum is None else entry.checksum
        sizes = (checksum, len(entry.content), size, len(entry.name))
        header = struct.pack("<5H3IH", 20, entry.flags, entry.method, 0, 0, *sizes)
        start = len(files) if entry.start is None else entry.start
        directory += b"PK\x01\x02\x14\x00" + header + struct.pack("<4H2I", 0, 0, 0, 0, 0, start) + entry.name
        files += b"PK\x03\x04" + header + struct.pack("<H", len(entry.extra)) + entry.name + entry.extra + entry.content
    end = struct.pack("<4H2IH", 0, 0, len(entries), len(entries), len(directory), len(files), 0)
    return files + directory + b"PK\x05\x06" + end


BOMB = deflated(bytes(20_000_000))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (zipped(Entry(b"../a.npy")), "the archive names a file outside itself, '../a.npy'"),
        (zipped(Entry(b"x/../../a.npy")), "the archive names a file outside itself, 'x/../../a.npy'"),
        (zipped(Entry(b"..\\a.npy")), "the archive names a file outside itself"),
        (zipped(Entry(b"/a.npy")), "the archive names a file outside itself, '/a.npy'"),
        (zipped(Entry(b"C:a.npy")), "the archive names a file outside itself, 'C:a.npy'"),
        (zipped(Entry(), Entry()), "the archive has two files of one name"),
        (zipped(Entry(), Entry(b"b.npy", start=0)), "'b.npy' overlaps another file of the archive"),
        (zipped(Entry(content=bytes(300)), Entry(b"b.npy", start=1)), "no 'b.npy' where it should be"),
        (zipped(Entry(start=10_000)), "no 'a.npy' where it should be"),
        (zipped(Entry(size=2**31)), f"'a.npy' has {len(NPY)} bytes and declares 2147483648"),
        (zipped(Entry(content=BOMB, size=20_000_000, method=8)), "the archive would unpack to 20000000 bytes"),
        (zipped(Entry(content=BOMB, size=1000, method=8)), "'a.npy' unpacks to more than the 1000 bytes it declares"),
        (zipped(Entry(content=deflated(NPY), size=1000, method=8)), f"'a.npy' has {len(NPY)} bytes and declares 1000"),
        (zipped(Entry(content=b"\xff" * 50, size=1000, method=8)), "'a.npy' is damaged"),
        (zipped(Entry(content=deflated(NPY)[:-9], size=len(NPY), method=8)), "bytes and declares"),
        (zipped(Entry(checksum=1)), "'a.npy' is damaged: its checksum is wrong"),
        (zipped(Entry(flags=1)), "'a.npy' is encrypted"),
        (zipped(Entry(method=12)), "'a.npy' is packed with method 12; only deflate is known"),
        (zipped(Entry(b"a.txt")), "a zip archive that is none of PyTorch's, Keras's or NumPy's"),
        (zipped(Entry(b"")), "a zip archive that is none of PyTorch's, Keras's or NumPy's"),
        (zipped(Entry())[:-1], "a zip archive that is cut off or damaged"),
        (b"PK\x03\x04" + bytes(100), "a zip archive that is cut off or damaged"),
    ],
)
def test_archives_that_are_not_what_they_say_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason in read(tmp_path / "model", content)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_files_behind_a_header_that_is_said_to_be_longer_overlap(tmp_path: Path) -> None:
    """The content of the first begins where its local header says, within the second."""
    second = zipped(Entry(b"b.npy", NPY))
    hidden = second[: second.index(b"PK\x01\x02")]
    first = Entry(b"a.npy", NPY, extra=hidden[:-1])
    start = 30 + len(first.name)
    assert "overlaps" in read(tmp_path / "model", zipped(first, Entry(b"b.npy", NPY, start=start)))


def test_a_sound_archive_is_read(tmp_path: Path) -> None:
    """The archives above are refused for what is changed in them, since this one is read."""
    for entry in (
        Entry(),
        Entry(extra=b"abcd" * 5),
        Entry(content=deflated(NPY), size=len(NPY), checksum=zlib.crc32(NPY), method=8),
    ):
        assert read(tmp_path / "model", zipped(entry, Entry(b"b.npy"), Entry(b"folder/", b""))) == ""


def test_checksums_may_be_left_out(tmp_path: Path) -> None:
    """As torch.serialization.set_crc32_options(False) does."""
    assert read(tmp_path / "model", zipped(Entry(checksum=0))) == ""


# --- Damage ---------------------------------------------------------------------------------------

WHOLE = {path.name: path.read_bytes() for path in sorted(FILES.iterdir()) if path.suffix == ".pt"}
WHOLE["float16.safetensors"] = (FILES / "float16.safetensors").read_bytes()
WHOLE["arrays.npz"] = zipped(Entry(), Entry(b"b.npy", deflated(NPY), len(NPY), zlib.crc32(NPY), 8))

damaging = settings(max_examples=50)
arbitrary = settings(max_examples=200)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file some of whose bytes are changed, left out, inserted, or copied from a second file."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.integers(1, 64))
        match draw(st.sampled_from(["flip", "cut", "remove", "insert", "splice", "repeat"])):
            case "flip" if content:
                content[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[place:]
            case "remove":
                del content[place : place + length]
            case "insert":
                content[place:place] = draw(st.binary(min_size=1, max_size=16))
            case "splice":
                other = WHOLE[draw(st.sampled_from(sorted(WHOLE)))]
                start = draw(st.integers(0, len(other) - 1))
                content[place : place + length] = other[start : start + length]
            case "repeat":
                content[place:place] = bytes(content[place : place + length]) * draw(st.integers(1, 50))
    return bytes(content)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "model"


@damaging
@given(st.data())
@pytest.mark.parametrize("name", WHOLE)
def test_damaged_files_are_read_or_refused(path: Path, name: str, data: st.DataObject) -> None:
    read(path, data.draw(damaged(WHOLE[name])))


def parts(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


ARCHIVES = [name for name, content in WHOLE.items() if content.startswith(b"PK")]


@damaging
@given(st.data())
@pytest.mark.parametrize("name", ARCHIVES)
def test_damage_within_sound_archives_is_read_or_refused(path: Path, name: str, data: st.DataObject) -> None:
    """No checksum tells it."""
    files = parts(WHOLE[name])
    key = data.draw(st.sampled_from([key for key in files if key.endswith(("data.pkl", ".npy", "byteorder"))]))
    files[key] = data.draw(damaged(files[key]))
    read(path, zipped(*(Entry(key.encode(), content) for key, content in files.items())))


@pytest.mark.parametrize("name", WHOLE)
def test_any_cut_is_noticed(path: Path, name: str) -> None:
    whole = WHOLE[name]
    assert read(path, whole) == ""
    for length in range(0, len(whole), max(len(whole) // 50, 1)):
        assert read(path, whole[:length]) != ""


@arbitrary
@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_are_refused(path: Path, content: bytes) -> None:
    read(path, content)
    read(path, archive(content))
    read(path, legacy(content))


VALUES = [text("a"), number(3), b"N", b"\x88", b")", b"]", b"}", b"(", b"\x8f", tensor(), storage(), b"(K\x01K\x02t"]
NAMES = [
    REBUILD,
    ORDERED,
    SYSTEM,
    b"ctorch\nSize\n",
    b"c__torch__\nNet\n",
    b"cnumpy\ndtype\n",
    b"ctorch\nFloatStorage\n",
]
PLAIN_OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes if opcode.arg is None]
MEMO = [opcode + bytes([index]) for opcode in (b"q", b"h") for index in range(4)]


@arbitrary
@given(st.lists(st.sampled_from(VALUES + NAMES + PLAIN_OPCODES + MEMO), max_size=60).map(b"".join))
def test_any_opcodes_are_read_or_refused(path: Path, opcodes: bytes) -> None:
    read(path, archive(opcodes))
