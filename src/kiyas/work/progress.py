"""Progress on stderr: a bar with rate and time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kiyas.judge.terminal import one_line, printable, raw

PLAIN_EVERY_S = 10.0
LONG = 20_000
"""Rows or texts from which on going through them takes so long that it is shown."""


class Bar:
    """Counts units of one stage."""

    def __init__(self, label: str, total: int, unit: str, done: int, progress: Progress | None) -> None:
        label = one_line(label)
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._first = done
        self._progress = progress
        self._started = self._told = time.monotonic()
        self._task = (
            progress.add_task(label, total=total, completed=done, unit=unit, note="", rate="") if progress else None
        )

    @property
    def rate(self) -> float:
        """Units per second since the bar was made."""
        return (self.done - self._first) / max(1e-9, time.monotonic() - self._started)

    def update(self, count: int = 1, note: str = "") -> None:
        self.done += count
        note = one_line(note)
        if self._progress is not None and self._task is not None:
            changes = {"rate": f"{self.rate:,.1f}"} | ({"note": note} if note else {})
            self._progress.update(self._task, completed=self.done, **changes)  # type: ignore[arg-type]
        elif time.monotonic() - self._told > PLAIN_EVERY_S:
            self._told = time.monotonic()
            left = f", about {_minutes((self.total - self.done) / self.rate)} left" if self.rate else ""
            tell(
                f"{self.label}: {self.done}/{self.total} {self.unit}, {self.rate:,.1f}/s{left}"
                + (f", {note}" if note else "")
            )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def tell(message: str) -> None:
    """One line on stderr."""
    print(printable(message), file=sys.stderr, flush=True)


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
    # Its cursor movements are ours; the texts in it are cleaned and never markup.
    console = Console(file=raw(sys.stderr))
    if console.is_terminal:
        columns = (
            TextColumn("{task.description:<10}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}, {task.fields[rate]}/s", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=console) as progress:
            yield Bar(label, total, unit, done, progress)
    else:
        started = time.monotonic()
        tell(f"{label}: {total} {unit}" + (f" ({done} done before)" if done else ""))
        each = Bar(label, total, unit, done, None)
        yield each
        tell(f"{label}: {each.done}/{total} {unit} in {time.monotonic() - started:.1f} s")


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
