"""Writing safetensors files without the package `safetensors` equals writing them with it."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_lstm.io.safetensors_file import TYPES, encode_safetensors

DTYPES = [np.dtype(name) for name in TYPES.values() if name != "bfloat16"]
NAMES = st.text(max_size=8).filter(lambda name: name != "__metadata__")
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        st.sampled_from([dtype, dtype.newbyteorder(">")]), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)
    )
)


@contextmanager
def without_package() -> Iterator[None]:
    """In this context the package cannot be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "safetensors.numpy", None)
        yield


def in_both_ways(tensors: dict[str, Any], metadata: dict[str, str]) -> tuple[bytes, bytes]:
    """The bytes of a file that the package writes, and those that are written without it."""
    written = encode_safetensors(tensors, metadata)
    with without_package():
        return written, encode_safetensors(tensors, metadata)


@given(st.dictionaries(NAMES, ARRAYS, max_size=6), st.dictionaries(st.text(), st.text(), max_size=1))
def test_files_are_equal_byte_for_byte(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    package, own = in_both_ways(tensors, metadata)
    assert own == package


@given(st.dictionaries(NAMES, ARRAYS, max_size=2), st.dictionaries(st.text(), st.text(), min_size=2))
def test_only_the_order_of_metadata_differs(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    package, own = in_both_ways(tensors, metadata)
    length = int.from_bytes(own[:8], "little")
    assert own[:8] == package[:8] and own[8 + length :] == package[8 + length :]
    headers = [json.loads(file[8 : 8 + length]) for file in (package, own)]
    assert headers[0] == headers[1] and list(headers[1]["__metadata__"]) == list(metadata)


def test_all_dtypes_are_in_the_files_order() -> None:
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    package, own = in_both_ways({dtype.name: np.ones(3, dtype) for dtype in [*DTYPES, bfloat16]}, {})
    assert own == package


@pytest.mark.parametrize("metadata", [{"a": "\ud800"}, {"\udfff": "a"}], ids=["value", "key"])
def test_surrogates_are_refused_in_both_ways(metadata: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        encode_safetensors({}, metadata)
    with without_package(), pytest.raises(ValueError, match="surrogates"):
        encode_safetensors({}, metadata)
