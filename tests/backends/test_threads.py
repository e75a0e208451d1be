"""How many threads compute."""

import pytest

import tinygrad_lstm as tg


def test_the_number_of_threads() -> None:
    before = tg.get_num_threads()
    assert before >= 1
    try:
        tg.set_num_threads(3)
        assert tg.get_num_threads() == 3
        with pytest.raises(ValueError, match=r"set_num_threads: expected at least 1 thread, got 0"):
            tg.set_num_threads(0)
        assert tg.get_num_threads() == 3
    finally:
        tg.set_num_threads(before)
