"""PyTorch's files without PyTorch: the weights are read, and other contents are refused by name."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch_pickles import REBUILD, archive, dictionary, legacy, number, storage, tensor, text

from tinygrad_lstm.io import load_weights, save_weights

FILES = Path(__file__).parents[1] / "golden" / "files"
NAMES = sorted(path.stem for path in FILES.glob("*.pt"))


def load(tmp_path: Path, content: bytes) -> dict[str, np.ndarray]:
    (tmp_path / "model.pt").write_bytes(content)
    return load_weights(tmp_path / "model.pt")


def check_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """That a file is refused, in one line that names it and says why."""
    with pytest.raises(ValueError, match=re.escape(reason)) as raised:
        load(tmp_path, content)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'model.pt'}: ") and "\n" not in message


@pytest.mark.parametrize("name", NAMES)
def test_what_pytorch_wrote_comes_back(name: str) -> None:
    values = load_weights(FILES / f"{name}.expected.safetensors")
    expected = {key.removeprefix("file."): array for key, array in values.items() if key.startswith("file.")}
    weights = load_weights(FILES / f"{name}.pt")
    assert weights.keys() == expected.keys() and len(expected) > 0
    for key, array in weights.items():
        assert array.dtype == expected[key].dtype and array.dtype.isnative, key
        assert array.shape == expected[key].shape and array.tobytes() == expected[key].tobytes(), key
        assert array.flags.writeable, key


@pytest.mark.parametrize("name", ["types", "types_legacy"])
def test_tensors_of_one_storage_share_its_memory(name: str) -> None:
    weights = load_weights(FILES / f"{name}.pt")
    assert weights["tied.encoder"] is weights["tied.decoder"]
    assert all(np.shares_memory(weights["layouts.0"], weights[f"layouts.{k}"]) for k in range(1, 6))
    weights["layouts.0"][0, 0] = 7.0
    assert weights["layouts.4"] == 7.0
    assert not np.shares_memory(weights["layouts.0"], weights["noted"])


def test_arrays_can_be_saved_again(tmp_path: Path) -> None:
    weights = load_weights(FILES / "types.pt")
    save_weights(tmp_path / "model.safetensors", weights)
    again = load_weights(tmp_path / "model.safetensors")
    assert all(np.array_equal(again[name], array) for name, array in weights.items())


READING_WITHOUT = """
import sys
import tinygrad_lstm
late = {"pickletools", "zipfile", "h5py", "onnx", "safetensors"}
assert not late & sys.modules.keys(), late & sys.modules.keys()
sys.modules["torch"] = None
print(len(tinygrad_lstm.io.load_weights(sys.argv[1])))
"""


def test_pytorch_is_not_needed() -> None:
    command = [sys.executable, "-c", READING_WITHOUT, str(FILES / "lstm.pt")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "32\n"


@pytest.mark.parametrize("byte_order", ["little", "big", None])
def test_bytes_may_have_either_order(tmp_path: Path, byte_order: str | None) -> None:
    values = np.arange(6, dtype=">f4" if byte_order == "big" else "<f4")
    weights = load(tmp_path, archive(dictionary({"a": tensor()}), {"0": values.tobytes()}, byte_order))
    assert weights["a"].dtype.isnative and np.array_equal(weights["a"], [[0, 1, 2], [3, 4, 5]])


def test_an_invalid_byte_order_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.pt: its byte order is neither little nor big"):
        load(tmp_path, archive(dictionary({"a": tensor()}), byte_order="middle"))


def test_bfloat16_is_widened_once_a_storage(tmp_path: Path) -> None:
    stored = storage(kind="torch\nBFloat16Storage")
    values = np.array([1.0, -2.5, 3e38, np.inf, 1e-40, 0.0], np.float32)
    content = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    pickle = dictionary({"a": tensor(stored), "b": tensor(stored, 1, (2,), (2,))})
    weights = load(tmp_path, archive(pickle, {"0": content}))
    assert weights["a"].dtype == np.float32 and np.allclose(weights["a"].ravel(), values, rtol=2**-7, atol=1e-41)
    assert np.shares_memory(weights["a"], weights["b"]) and np.array_equal(weights["b"], weights["a"].ravel()[1:4:2])
    assert weights.types == {"a": "bfloat16", "b": "bfloat16"}


def test_names_are_joined_by_dots(tmp_path: Path) -> None:
    inner = dictionary({"a.b": tensor(), "list": b"](" + text("other") + tensor() + b"K\x01" + tensor() + b"e"})
    pickle = (
        b"}(" + number(7) + inner + b"\x88" + tensor() + text("") + tensor() + b"(K\x01K\x02t" + dictionary({}) + b"u"
    )
    assert list(load(tmp_path, archive(pickle))) == ["7.a.b", "7.list.1", "7.list.3", "True", ""]


def test_ordered_dictionaries_of_python_2_are_read(tmp_path: Path) -> None:
    pairs = b"](](U\x01a" + tensor() + b"e](U\x01b" + tensor() + b"ee"
    assert list(load(tmp_path, legacy(b"ccollections\nOrderedDict\n" + pairs + b"\x85R"))) == ["a", "b"]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_numpy_are_read_from_any_protocol(tmp_path: Path, protocol: int) -> None:
    array = np.arange(6, dtype=">i4").reshape(2, 3)
    fixed = array.astype("<f8")
    fixed.flags.writeable = False
    saved = {"c": array, "fortran": np.asfortranarray(array), "fixed": fixed, "scalar": np.float32(1.5)}
    weights = load(tmp_path, archive(pickle.dumps(saved, protocol)[:-1]))
    assert list(weights) == ["c", "fortran", "fixed"]
    for name, loaded in weights.items():
        assert np.array_equal(loaded, array) and loaded.dtype.isnative and loaded.flags.writeable, name


MODULE = b"c__torch__.net\nNet\n)\x81}("


def test_modules_of_torchscript_are_read_as_their_state_dict(tmp_path: Path) -> None:
    flat = text("_flat_weights") + b"](" + tensor() + b"e"
    part = MODULE + text("weight") + tensor() + text("training") + b"\x88" + flat + b"ub"
    pickle = MODULE + text("part") + part + text("buffer") + tensor() + text("sizes") + b"(" + tensor() + b"tub"
    assert list(load(tmp_path, archive(pickle))) == ["part.weight", "buffer"]


def test_packed_modules_of_torchscript_are_refused(tmp_path: Path) -> None:
    pickle = MODULE + text("part") + b"c__torch__.torch.classes.quantized\nPacked\n)\x81(" + tensor() + b"tbub"
    with pytest.raises(
        ValueError, match=r"refuses the packed state of a '__torch__\.torch\.classes\.quantized\.Packed'"
    ):
        load(tmp_path, archive(pickle))


NO_NAME = "it holds no array that has a name, but "


@pytest.mark.parametrize(
    ("pickle", "reason"),
    [
        (dictionary({"epoch": number(3), "names": b"]"}), NO_NAME + "a dictionary of 'epoch', 'names'"),
        (b"]" + number(3) + b"a", NO_NAME + "a list of 1"),
        (MODULE + b"ub", NO_NAME + "a '__torch__.net.Net': of a module that was frozen, save the one before"),
        (b"}q\x00h\x00Ns", NO_NAME + "a dictionary of a dictionary"),
        (dictionary({"a.b": tensor(), "a": dictionary({"b": tensor()})}), "two of its arrays have the name 'a.b'"),
        (b"}(" + number(1) + tensor() + text("1") + tensor() + b"u", "two of its arrays have the name '1'"),
        (b"}((K\x01K\x02t" + tensor() + b"u", "under a key that is neither a string nor an integer"),
        (dictionary({"\ud800": tensor()}), "under a key that is neither a string nor an integer"),
        (b"}(" + number(10**5000) + tensor() + b"u", "under a key that is neither a string nor an integer"),
        (b"}q\x00" + text("self") + b"h\x00s", "its containers lie more than 100 deep in each other"),
    ],
)
def test_what_has_no_arrays_by_names_is_refused(tmp_path: Path, pickle: bytes, reason: str) -> None:
    check_refused(tmp_path, archive(pickle), reason)


def test_one_tensor_has_the_name_of_its_file(tmp_path: Path) -> None:
    assert [*load(tmp_path, archive(tensor()))] == ["model"]


def typed_tensor(type_name: str) -> bytes:
    """A tensor of a type that has no storages of its own."""
    stored = storage(size=24, kind="torch.storage\nUntypedStorage")
    view = stored + b"K\x00K\x01\x85K\x01\x85\x89N"
    return b"ctorch._utils\n_rebuild_tensor_v3\n(" + view + b"ctorch\n" + type_name.encode() + b"\ntR"


CONJUGATED = REBUILD + b"(" + storage() + b"K\x00K\x06\x85K\x01\x85\x89N" + dictionary({"conj": b"\x88"}) + b"tR"


@pytest.mark.parametrize(
    ("pickle", "reason"),
    [
        (
            tensor(shape=(2**60,), strides=(1,)),
            "its shape (1152921504606846976,) has more elements than its storage",
        ),
        (tensor(shape=(2**40, 2**40), strides=(1, 1)), "has more elements than its storage, 6"),
        (tensor(shape=(7,), strides=(0,)), "has more elements than its storage, 6: save an expanded tensor's clone()"),
        (tensor(shape=(2,), strides=(6,)), "it reaches element 6 of a storage that has 6"),
        (tensor(offset=1), "it reaches element 6 of a storage that has 6"),
        (tensor(offset=2**62), "of a storage that has 6"),
        (tensor(offset=-1), "its shape, strides and offset contradict each other"),
        (tensor(strides=(3,)), "its shape, strides and offset contradict each other"),
        (tensor(shape=(-1,), strides=(1,)), "its shape or its strides are negative, too large, or not integers"),
        (tensor(shape=(2,), strides=(-1,)), "its shape or its strides are negative, too large, or not integers"),
        (tensor(shape=(2**64,), strides=(1,)), "its shape or its strides are negative, too large, or not integers"),
        (
            tensor(shape=(1,) * 100, strides=(1,) * 100),
            "its shape or its strides are negative, too large, or not integers",
        ),
        (tensor(shape=(0, 2**62), strides=(1, 1)), "NumPy has no arrays of shape (0, 4611686018427387904)"),
        (tensor(storage(size=5)), "its storage '0' has 24 bytes, which is a different size"),
        (tensor(storage(size=2**62)), "its storage '0' has 24 bytes, which is a different size"),
        (tensor(storage(key="../0")), "the archive has no 'model/data/../0'"),
        (tensor(storage(size=-1)), "damaged: its storage '0' has an invalid name or size"),
        (tensor(storage(size=2**63)), "damaged: its storage '0' has an invalid name or size"),
        (tensor(storage(key="k" * 1001)), "...' has an invalid name or size"),
        (tensor(storage(kind="torch\nQInt8Storage")), "refuses a 'torch.QInt8Storage'"),
        (tensor(b"N"), "it has no storage"),
        (b"](" + tensor() + tensor(storage(size=3)) + b"e", "its storage '0' is described in two ways"),
        (b"](" + typed_tensor("uint16") + typed_tensor("int32") + b"e", "has elements of uint16 and of int32"),
        (typed_tensor("float8_e5m2"), "NumPy has no type for 'torch.float8_e5m2'"),
        (CONJUGATED, "refuses a conjugated or negated view"),
        (REBUILD + b"K\x00\x85R", "damaged: something has arguments that PyTorch does not write"),
    ],
)
def test_tensors_that_are_not_in_their_storage_are_refused(tmp_path: Path, pickle: bytes, reason: str) -> None:
    check_refused(tmp_path, archive(dictionary({"a": pickle})), reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (legacy(dictionary({"a": tensor()}), keys=()), "damaged: its storages are not those that its tensors refer to"),
        (legacy(dictionary({"a": tensor()}), keys=("0", "0")), "damaged: its storages are not those"),
        (legacy(dictionary({"a": tensor()}), keys=("1",)), "damaged: its storages are not those"),
        (legacy(dictionary({"a": tensor()}), size=5), "damaged: the size of its storage '0' is wrong"),
        (legacy(dictionary({"a": tensor()}), content=bytes(23)), "cut off or damaged"),
        (legacy(dictionary({"a": tensor()}), content=bytes(25)), "1 bytes follow where it should end"),
        (legacy(dictionary({"a": tensor(storage(size=2**60))}), size=2**60), "cut off or damaged"),
        (legacy(tensor(storage()[:-2] + b"(" + text("1") + b"K\x00K\x02ttQ")), "refuses a part of a storage"),
        (legacy(b"N").replace(b"M\xe9\x03", b"M\xea\x03"), "not a PyTorch file, or of a different version"),
    ],
)
def test_older_files_must_have_the_storages_of_their_tensors(tmp_path: Path, content: bytes, reason: str) -> None:
    check_refused(tmp_path, content, reason)
