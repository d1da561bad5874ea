"""A run that is watched in a notebook: one line of progress, losses and pass rates so far, and at the end its report.

What is shown is HTML that is replaced as the run goes on: no widget, no script, nothing to install.
"""

from __future__ import annotations

import contextlib
import html
import math
import sys
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import altair as alt

from kiyas.judge.pulse import beating, clock
from kiyas.judge.terminal import many
from kiyas.report import drawing
from kiyas.report.charts import BASE_COLOUR, COLOURS, finish
from kiyas.runfolder.files import Tail
from kiyas.runfolder.paths import RunDir
from kiyas.runfolder.record import read_record
from kiyas.types import BASE_ARM
from kiyas.work.progress import Bar, shown_by

EVERY_S, DRAWN_EVERY_S = 1.0, 4.0
WIDTH, HEIGHT = 380, 200
"""of a chart, in pixels"""


def cell() -> object:
    """The number of the cell that is run; None outside of a notebook."""
    shell = _shell()
    return None if shell is None else shell.execution_count


@contextlib.contextmanager
def shown(folder: RunDir) -> Iterator[View | None]:
    """Inside, a notebook shows the run's progress. None: this is no notebook, stderr shows it."""
    if _shell() is None:
        with beating("kiyas.run"):
            yield None
        return
    view = View(folder)
    thread = threading.Thread(target=view.follow, daemon=True)
    thread.start()
    try:
        with shown_by(view), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")  # a library's own bars want widgets
            yield view
    except KeyboardInterrupt:
        view.end("stopped (run the cell again to continue)")
        raise _StoppedError from None
    except BaseException:
        view.end("stopped")
        raise
    finally:
        view.ended.set()
        thread.join()
        view.show()


class _StoppedError(KeyboardInterrupt):
    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: who interrupts a cell wants no traceback."""
        return ["kiyas: stopped"]


def _shell() -> Any:
    """IPython's, where a kernel runs it: not the one of a terminal."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell if hasattr(shell, "kernel") else None


class View:
    """What the notebook shows of a run."""

    def __init__(self, folder: RunDir) -> None:
        from IPython.display import HTML, display

        self._html, self._handle = HTML, display(HTML(""), display_id=True)
        self.ended = threading.Event()
        self._folder, self._course = folder, Course(folder)
        self._began = time.monotonic()
        self._lines: list[str] = []
        self._now: Callable[[], str] = lambda: "starting"
        self._below = self._last = ""

    def said(self, line: str) -> None:
        self._lines.append(line)
        self._now = lambda: line

    def began(self, bar: Bar) -> None:
        self._now = bar.__str__

    def end(self, line: str, below: str | None = None) -> None:
        """The last line; `below`: what takes the place of the charts."""
        self.ended.set()
        line = f"{line} after {clock(time.monotonic() - self._began)}"
        self._now = lambda: line
        self._below = self._below if below is None else below

    def follow(self) -> None:
        """Until the run has ended: the line every second, the charts every few seconds, where there is news."""
        drawn_at = 0.0
        with drawing.engine() as engine:
            while not self.ended.wait(EVERY_S):
                try:
                    if time.monotonic() - drawn_at > DRAWN_EVERY_S and self._course.read():
                        drawn_at = time.monotonic()
                        drawn = _side_by_side(self._course.charts(), engine)
                        self._below = self._below if self.ended.is_set() else drawn
                except Exception as error:  # noqa: BLE001 (a courtesy: without charts the line and the run go on)
                    drawn_at = math.inf
                    self._below = f"<p>no charts: {html.escape(f'{type(error).__name__}: {error}')}</p>"
                self.show()

    def show(self) -> None:
        """Nothing is sent that is there already."""
        said = "".join(f"<div>{html.escape(each)}</div>" for each in self._lines)
        text = (
            f"<div style='font-variant-numeric:tabular-nums'><b>{html.escape(self._folder.root.name)}</b> "
            f"{html.escape(self._now())}</div>"
            f"<details><summary>{many(len(self._lines), 'message')}</summary>{said}</details>{self._below}"
        )
        if text != self._last:
            self._last = text
            self._handle.update(self._html(text))


class Course:
    """Losses and pass rates so far, from the files that the stages write."""

    def __init__(self, folder: RunDir) -> None:
        self._folder = folder
        self._tail = Tail()
        self._losses: dict[tuple[str, str, int], dict[tuple[str, int], float]] = defaultdict(dict)
        """by arm, kind and step: those of its trainings"""
        self._right: dict[tuple[str, int], dict[tuple[Any, ...], bool]] = defaultdict(dict)
        """by arm and step: whether its programs are right"""

    def read(self) -> bool:
        """Whether there was news."""
        logs = [*self._folder.train_state.glob("part-*.jsonl"), self._folder.train_log]
        rows = [row for log in logs for row in self._tail.rows(log)]
        for row in rows:
            if "loss" in row and row["loss"] is not None and (row["kind"] == "train" or row["on"] == row["arm"]):
                self._losses[row["arm"], row["kind"], row["step"]][row["variant"], row["seed"]] = row["loss"]
        judged = self._tail.rows(self._folder.judgments)
        for row in judged:
            which = (row["variant"], row["seed"], row["problem_id"], row["sample"])
            self._right[row["arm"], row["step"]][which] = row["verdict"] == "AC"
        return bool(rows or judged)

    def charts(self) -> list[alt.Chart]:
        """Of losses, and of pass rates; each where there is something to show."""
        study = read_record(self._folder).study
        arms = list(study.arms) if study is not None else []
        colour = alt.Color(
            "arm:N",
            scale=alt.Scale(
                domain=[*arms, BASE_ARM], range=[*(COLOURS[i % len(COLOURS)] for i in range(len(arms))), BASE_COLOUR]
            ),
        )
        losses = [
            {"arm": arm, "kind": kind, "step": step, "loss": sum(found.values()) / len(found)}
            for (arm, kind, step), found in sorted(self._losses.items())
        ]
        rates = [
            {"arm": arm, "step": step, "rate": sum(found.values()) / len(found)}
            for (arm, step), found in sorted(self._right.items())
        ]
        made: list[alt.Chart] = []
        if losses:
            dash = alt.StrokeDash(
                "kind:N",
                scale=alt.Scale(domain=["validation", "train"], range=[[1, 0], [3, 3]]),
                legend=alt.Legend(symbolType="stroke"),
            )
            y = alt.Y("loss:Q", title="loss (mean over seeds)", scale=alt.Scale(zero=False))
            made.append(
                alt.Chart(alt.Data(values=losses))
                .mark_line(point={"size": 18})
                .encode(x="step:Q", y=y, color=colour, strokeDash=dash)
            )
        if rates:
            y = alt.Y("rate:Q", title="solved, of the programs judged so far", axis=alt.Axis(format="%"))
            made.append(
                alt.Chart(alt.Data(values=rates)).mark_line(point={"size": 40}).encode(x="step:Q", y=y, color=colour)
            )
        return made


def _side_by_side(made: list[alt.Chart], engine: drawing.Engine) -> str:
    answers = [engine.ask(spec=finish(chart, WIDTH, HEIGHT), only="svg") for chart in made]
    return (
        "<div style='display:flex;flex-wrap:wrap;gap:1em'>"
        + "".join(each["svg"] for each in answers if "svg" in each)
        + "</div>"
    )
