"""Progress on stderr: a bar with the time left on a terminal, a plain line every five seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from kiyas.judge import pulse
from kiyas.judge.pulse import Pace, clock, on_screen, under_way
from kiyas.judge.terminal import moves, one_line, raw
from kiyas.work.deadline import OutOfTimeError

LONG = 20_000
"""Rows or texts from which on going through them takes so long that it is shown."""
NARROW = 90
"""columns below which a bar says only how much is done, and how long it takes"""


class Listener(Protocol):
    """Shows progress in another place than stderr: a notebook."""

    def said(self, line: str) -> None: ...

    def began(self, bar: Bar) -> None: ...


_listener: Listener | None = None


@contextlib.contextmanager
def shown_by(listener: Listener) -> Iterator[None]:
    """Inside, it is `listener` that shows progress."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def tell(message: str) -> None:
    """One line on stderr."""
    if _listener is not None:
        _listener.said(one_line(message))
    else:
        pulse.tell(message)


class Bar:
    """Counts units of one stage."""

    def __init__(self, label: str, total: int, unit: str, done: int = 0) -> None:
        self.label, self.total, self.unit, self.done = one_line(label), total, unit, done
        self.note = ""
        self.left: Callable[[], float | None] = self._left
        """seconds, as far as they are known; who knows better puts another guess here"""
        self._pace = Pace()
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def update(self, count: int = 1, note: str = "") -> None:
        self.done += count
        self.note = one_line(note) or self.note
        self._pace.mark(self.done)

    def _left(self) -> float | None:
        return self._pace.left_s(self.total - self.done)

    def parts(self, narrow: bool = False) -> list[str]:
        """What is to be said of it; narrow: only how much is done, and how long it takes."""
        each = self._pace.seconds_each()
        counted = f"{self.done}/{self.total}"
        said = [counted if narrow else f"{counted} {self.unit}"]
        if each and not narrow:
            said.append(f"{1 / each:,.1f}/s" if each < 1 else f"{each:,.1f} s each")
        said.append(f"{clock(self.elapsed)} elapsed")
        if self.done < self.total:
            said.append(pulse.left(self.left()))
        return said if narrow or not self.note else [*said, self.note]

    def __str__(self) -> str:
        return f"{self.label}: {', '.join(self.parts())}"


class _Words(ProgressColumn):
    """What a bar says, as short as the terminal is narrow."""

    def __init__(self, bar: Bar, width: int) -> None:
        super().__init__(Column(no_wrap=True, overflow="ellipsis"))
        self._bar, self._narrow = bar, width < NARROW

    def render(self, task: Task) -> Text:
        return Text(", ".join(self._bar.parts(self._narrow)))


class _Moving(Progress):
    """rich's, which asks the bar how far it is."""

    def __init__(self, bar: Bar, console: Console) -> None:
        self._bar = bar
        size = 24 if console.width >= NARROW else 6
        name = Column(no_wrap=True, overflow="ellipsis", min_width=9, max_width=24)
        super().__init__(_Label(name), BarColumn(size), _Words(bar, console.width), console=console)
        self.add_task(bar.label, total=bar.total, completed=bar.done)

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.task_ids:
            self.update(task, completed=self._bar.done)
        return super().get_renderables()


class _Label(ProgressColumn):
    def __init__(self, column: Column) -> None:
        super().__init__(column)

    def render(self, task: Task) -> Text:
        return Text(task.description)


@contextlib.contextmanager
def counted(label: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Progress of something that says itself how much there is: it calls this with (done, total) after each unit."""
    shown: list[Bar] = []
    with contextlib.ExitStack() as stack:

        def step(done: int, total: int) -> None:
            if not shown:
                shown.append(stack.enter_context(bar(label, total, unit)))
            shown[0].update(done - shown[0].done)

        yield step


@contextlib.contextmanager
def bar(label: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
    """A stage's progress; `done` units were there before (a resumed run)."""
    made = Bar(label, total, unit, done)
    try:
        with _shown(made):
            yield made
    except OutOfTimeError as error:
        error.far = f"{made.done} of {made.total} {made.unit}"
        raise


@contextlib.contextmanager
def _shown(made: Bar) -> Iterator[None]:
    if not made.total:
        yield
        return
    if _listener is not None:
        _listener.began(made)
        yield
    elif moves(raw(sys.stderr)):
        # Its cursor movements are ours; the texts in it are cleaned and never markup.
        console = Console(file=raw(sys.stderr), force_terminal=True)
        with on_screen(), _Moving(made, console):
            yield
    else:
        tell(f"{made.label}: {made.total} {made.unit}" + (f" ({made.done} done before)" if made.done else ""))
        with under_way(made.__str__):
            yield
        tell(f"{made.label}: {made.done}/{made.total} {made.unit} in {clock(made.elapsed)}")


@contextlib.contextmanager
def long_bar(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Progress of going through many rows; nothing is shown of few. It is called with how many were done."""
    if total < LONG:
        yield lambda count: None
        return
    with bar(label, total, unit) as shown:
        waiting = 0

        def step(count: int) -> None:
            nonlocal waiting
            waiting += count
            if waiting >= LONG // 20:
                shown.update(waiting)
                waiting = 0

        yield step
        shown.update(waiting)
