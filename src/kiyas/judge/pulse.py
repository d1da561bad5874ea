"""Signs of life: no command is silent for longer than five seconds, and the time that is left is an honest guess."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from .terminal import printable

EVERY_S = 5.0
_SOON = 0.5

_under_way: list[Callable[[], str]] = []
"""what is under way says itself in a line; the innermost comes last"""
_on_screen: list[Callable[[], None]] = []
"""what draws a bar again; one that moves by itself needs nothing"""
_said = time.monotonic()


def tell(message: str) -> None:
    """One line on stderr."""
    global _said
    _said = time.monotonic()
    print(printable(message), file=sys.stderr, flush=True)


@contextlib.contextmanager
def beating(label: str) -> Iterator[None]:
    """Inside, what is under way is said in a line whenever nothing else was said for five seconds."""
    if _under_way:  # somebody beats already
        with under_way(label):
            yield
        return
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_SOON):
            with contextlib.suppress(IndexError, OSError, ValueError):  # it has just ended, or nobody reads stderr
                if _on_screen:
                    _on_screen[-1]()
                elif time.monotonic() - _said > EVERY_S - 2 * _SOON:
                    tell(_under_way[-1]())

    global _said
    _said = time.monotonic()
    thread = threading.Thread(target=beat, daemon=True)
    with under_way(label):
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextlib.contextmanager
def under_way(line: str | Callable[[], str]) -> Iterator[None]:
    """`line`: what is done, to which the time so far is added; or what says the whole line."""
    began = time.monotonic()
    said = line if callable(line) else lambda: f"{line}: still at work, {clock(time.monotonic() - began)} elapsed"
    _under_way.append(said)
    try:
        yield
    finally:
        _under_way.remove(said)


@contextlib.contextmanager
def on_screen(draw: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Inside, something is on the screen that moves by itself, or is drawn again and again."""
    global _said
    _on_screen.append(draw)
    try:
        yield
    finally:
        _on_screen.remove(draw)
        _said = time.monotonic()


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `3:04:05`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def left(seconds: float | None) -> str:
    """`40 s left`, `12 min left`, `3.5 h left`; None: it is not known yet."""
    if seconds is None:
        return "time left: measuring…"
    if seconds < 100:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 6000 else f"{seconds / 3600:.1f} h left"


class Pace:
    """How long work takes that is done in like units: the median time for one, over the last half of what was done.

    The first unit does not count: it waits for what is loaded before.
    """

    PARTS = 5
    MOST = 128
    AT_ONCE_S = 0.25
    """What comes within this time counts as one: the answers of a wave are handed over together."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []
        """when how many were done"""
        self._since = 0.0
        """when the last of them began"""

    def mark(self, done: int) -> None:
        now = time.monotonic()
        if self._marks and now - self._since < self.AT_ONCE_S:
            self._marks[-1] = (now, done)
            return
        self._since = now
        self._marks.append((now, done))
        if len(self._marks) > self.MOST:
            del self._marks[1::2]

    def left_s(self, units: int) -> float | None:
        """How long so many take. None where too little is known."""
        each = self.seconds_each()
        return None if each is None else units * each

    def seconds_each(self) -> float | None:
        """None where too little is known."""
        if len(self._marks) < 3:
            return None
        (first_at, first), (last_at, last) = self._marks[0], self._marks[-1]
        marks = [mark for mark in self._marks if mark[1] >= first + (last - first) / 2]
        marks = marks if len(marks) >= 3 else self._marks
        if marks[-1][1] <= marks[0][1] or last_at - first_at < 1:
            return None
        # Parts of equal size, so that answers which come in a rush weigh as much as those that are waited for.
        step = (marks[-1][1] - marks[0][1]) / self.PARTS
        parts, begun = [], marks[0]
        for mark in marks[1:]:
            if mark[1] - begun[1] >= step:
                parts.append((mark[0] - begun[0]) / (mark[1] - begun[1]))
                begun = mark
        parts.sort()
        middle = len(parts) // 2
        return parts[middle] if len(parts) % 2 else (parts[middle - 1] + parts[middle]) / 2


class JudgingPace:
    """How long judging still takes, by the CPU time that the programs of each problem took so far.

    A program that is stopped at its time limit costs as much as hundreds of others, and they are those of few problems:
    neither the number of programs nor a median says how long the rest takes.
    """

    OVERHEAD_S = 0.01
    """of a program that needs no time itself"""

    def __init__(self, programs: Mapping[str, int]) -> None:
        """`programs`: how many are to be judged, by problem."""
        self._left, self._judged = Counter(programs), Counter[str]()
        self._spent: dict[str, float] = {}
        self._began = time.monotonic()

    def judged(self, problem: str, cpu_s: float) -> None:
        self.known(problem)
        self._judged[problem] += 1
        self._spent[problem] = self._spent.get(problem, 0.0) + cpu_s + self.OVERHEAD_S

    def known(self, problem: str) -> None:
        """One that need not be judged."""
        self._left[problem] -= 1

    def left_s(self) -> float | None:
        """None where too little is known."""
        elapsed, spent = time.monotonic() - self._began, sum(self._spent.values())
        if elapsed < 1 or self._judged.total() < 5:
            return None
        usual = spent / self._judged.total()
        ahead = sum(
            n * (self._spent[problem] / self._judged[problem] if problem in self._spent else usual)
            for problem, n in self._left.items()
            if n > 0
        )
        return ahead * elapsed / spent
