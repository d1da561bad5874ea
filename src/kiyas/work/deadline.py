"""When a run has to end (`--max-hours`): a moment that every process looks at between its units of work.

Theory of operation. A unit is what a kill costs at most: a step of training, a stretch of decoding, a program. When one
is done and on disk, its stage asks `is_near`, with the seconds that the next unit and saving would take, and raises
`OutOfTimeError` where so many are not left. One unit is always done, however little time there is, so that a run that
is given too little goes on from command to command. No part is begun in the last minute: it loads its base first. A
worker is given `left_s`: clocks differ, seconds do not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class OutOfTimeError(Exception):
    """The run ends here, with all that is done on disk. `far`: how far its stage is, in words."""

    far = ""


BEGINNING_S = 60.0
"""What beginning a stage or a part may take; a tenth of the whole time where that is less."""
_end: float | None = None
_beginning_s = 0.0
_worked = False


@contextlib.contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """All that is done inside ends after so many seconds; None: whenever it is done."""
    global _end, _beginning_s, _worked
    before = _end, _beginning_s, _worked
    _end, _worked = None if seconds is None else time.monotonic() + seconds, False
    _beginning_s = min(BEGINNING_S, (seconds or 0.0) / 10)
    try:
        yield
    finally:
        _end, _beginning_s, _worked = before


def left_s() -> float | None:
    """Seconds until then, negative afterwards; None: as many as it takes."""
    return None if _end is None else _end - time.monotonic()


def is_near(needed_s: float = 0.0) -> bool:
    """Asked when a unit is done: are fewer seconds left than what follows would take?"""
    global _worked
    _worked = True
    left = left_s()
    return left is not None and left < needed_s


def stop_if_near(needed_s: float = 0.0) -> None:
    """Raises OutOfTimeError where `is_near`."""
    if is_near(needed_s):
        raise OutOfTimeError


def refuse_more() -> None:
    """Asked before more is begun. Raises OutOfTimeError where the time is nearly over and a unit was done."""
    if _worked:
        stop_if_near(_beginning_s)
