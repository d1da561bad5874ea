"""What is said while work goes on, and whether the time left is honest."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from rich.console import Console

from kiyas.judge import pulse
from kiyas.judge.pulse import JudgingPace, Pace
from kiyas.judge.verdict_file import Progress
from kiyas.work import progress


class Clock(SimpleNamespace):
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pulse, "time", made)
    return made


def test_what_is_loaded_before_the_first_unit_is_no_pace(clock: Clock) -> None:
    pace = Pace()
    clock.now += 60
    for done in range(1, 6):
        pace.mark(done)
        assert (pace.seconds_each() is None) == (done < 3)
        clock.now += 2
    assert pace.seconds_each() == pytest.approx(2)


def test_one_long_wait_changes_nothing_and_a_slower_course_is_seen(clock: Clock) -> None:
    pace = Pace()
    for done in range(100):
        pace.mark(done)
        clock.now += 300 if done == 80 else 1
    assert pace.seconds_each() == pytest.approx(1)
    for done in range(100, 201):
        pace.mark(done)
        clock.now += 5
    assert pace.seconds_each() == pytest.approx(5)


def test_answers_that_come_in_a_rush_weigh_no_more_than_those_waited_for(clock: Clock) -> None:
    """Waves of 50: 49 in a second, the last after nine more. A median over seconds would say 49 a second."""
    pace, done = Pace(), 0
    for _ in range(12):
        for k in range(50):
            clock.now += 9 if k == 49 else 1 / 49
            done += 1
            pace.mark(done)
    assert 0.1 < pace.seconds_each() < 0.3


def test_a_wave_that_is_handed_over_at_once_is_no_pace(clock: Clock) -> None:
    pace = Pace()
    for wave in range(1, 4):
        clock.now += 10
        for answer in range(50):
            pace.mark(50 * wave - 49 + answer)
        assert (pace.seconds_each() is None) == (wave < 3)
    assert pace.seconds_each() == pytest.approx(10 / 50)


def test_judging_goes_by_the_time_that_each_problem_takes(clock: Clock) -> None:
    """Four quick problems and one whose programs run into the limit; two programs at a time."""
    of = {f"quick {n}": 100 for n in range(4)} | {"slow": 10}
    pace = JudgingPace(of)
    assert pace.left_s() is None
    for n in range(4):
        for _ in range(50):
            clock.now += 0.01 / 2
            pace.judged(f"quick {n}", 0.0)
    for _ in range(5):
        clock.now += 6.01 / 2
        pace.judged("slow", 6.0)
    assert pace.left_s() == pytest.approx((200 * 0.01 + 5 * 6.01) / 2)
    for _ in range(5):
        pace.known("slow")
    assert pace.left_s() == pytest.approx(200 * 0.01 / 2)


@pytest.mark.parametrize("how", ["work", "bar", "judge"])
def test_silence_ends_after_five_seconds(
    how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pulse, "EVERY_S", 0.02)
    monkeypatch.setattr(pulse, "_SOON", 0.005)

    def until(seen: Callable[[str], bool]) -> None:
        said = ""
        while not seen(said):
            time.sleep(0.01)
            said += capsys.readouterr().err

    with pulse.beating("kiyas run"):
        until(lambda said: said.count("kiyas run: still at work, 0:00 elapsed\n") > 1)
        with pulse.on_screen():
            time.sleep(0.02)
            capsys.readouterr()
            time.sleep(0.1)
            assert capsys.readouterr().err == ""
        if how == "work":
            with pulse.under_way("analyse"):
                until(lambda said: "analyse: still at work, 0:00 elapsed" in said)
        if how == "bar":
            with progress.bar("train", 4, "steps"):
                until(lambda said: "train: 0/4 steps, 0:00 elapsed, time left: measuring…\n" in said)
        if how == "judge":
            shown = Progress(4)
            shown.step(1, "1 AC")
            until(lambda said: "judged: 1/4, 0:00 elapsed, time left: measuring…, 1 AC\n" in said)
            shown.end()
        until(lambda said: "kiyas run: still at work" in said)
    time.sleep(0.05)
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().err == "" and not pulse._under_way


def test_the_judges_bar_moves_without_news_on_one_line_and_not_while_it_is_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pulse, "_SOON", 0.005)
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    with pulse.beating("kiyas judge"):
        shown = Progress(4)
        said = ""
        while said.count("judged: 0/4, 0:00 elapsed") < 3:
            time.sleep(0.01)
            said += capsys.readouterr().err
        assert max(map(len, said.split("\r\x1b[K"))) < 60
        shown.hide()
        capsys.readouterr()
        time.sleep(0.03)
        assert capsys.readouterr().err == ""
        shown.end()
    assert not pulse._on_screen


@pytest.mark.parametrize(
    ("terminal", "term", "expected"), [(True, "xterm", True), (True, "dumb", False), (False, "xterm", False)]
)
def test_a_bar_moves_only_where_it_can(
    terminal: bool, term: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as CI sets it, whose log is a file
    assert progress.moves(SimpleNamespace(isatty=lambda: terminal)) is expected


@pytest.mark.parametrize("width", [60, 90, 200])
def test_a_bar_takes_one_line(width: int, clock: Clock) -> None:
    made = progress.Bar("generate", 123456, "answers", 1000)
    shown = progress._Moving(made, Console(file=io.StringIO(), width=width, force_terminal=True))
    for _ in range(5):
        clock.now += 10
        made.update(20, "loss 1.234")
    made._began -= 4 * 3600 + 59
    text = io.StringIO()
    Console(file=text, width=width).print(shown.get_renderable())
    (line,) = text.getvalue().splitlines()
    assert "1100/123456" in line and "4:00:59 elapsed" in line and "17.0 h left" in line
    assert ("2.0/s" in line and "answers" in line and "loss" in line) == (width >= 90)
