"""Waiting for other workers without occupying a core for long, so that there may be more workers than cores."""

import time
from collections.abc import Callable

__all__ = ["is_in_time"]

SPINNING = 1e-4
"""Seconds for which a worker waits without giving its core away: most messages have come by then."""

LONGEST_SLEEP = 1e-3


def is_in_time(is_done: Callable[[], bool], check: Callable[[], None], timeout: float) -> bool:
    """Waits until something is done, but not longer than `timeout` seconds. Returns whether it is done.

    Args:
        is_done: whether it is done now.
        check: called meanwhile; an exception ends the wait.
        timeout: the seconds.
    """
    began, sleep = time.monotonic(), LONGEST_SLEEP / 64
    while not is_done():
        check()
        waited = time.monotonic() - began
        if waited > timeout:
            return False
        if waited > SPINNING:
            time.sleep(sleep)
            sleep = min(2 * sleep, LONGEST_SLEEP)
    return True
