"""The end of a run's time: who is asked when, that one unit is always done, and what several workers do."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiyas.work import deadline
from kiyas.work.engine import OnProgress
from kiyas.work.progress import Bar, bar
from kiyas.work.workers import run_parts


def units(folder: str, name: str, report: OnProgress) -> None:
    """Three units, each a file, looking at the time after each."""
    for number in range(3):
        Path(folder, f"{name}-{number}").touch()
        report(1, "")
        if number < 2:
            deadline.stop_if_near()


def test_without_a_deadline_nothing_is_near() -> None:
    assert deadline.left_s() is None and not deadline.is_near(1e9)


def test_it_is_near_when_the_next_unit_would_not_fit() -> None:
    with deadline.within(1000):
        assert not deadline.is_near(10) and deadline.is_near(2000)
        with deadline.within(None):
            assert deadline.left_s() is None
        assert 0 < (deadline.left_s() or 0) <= 1000
    assert deadline.left_s() is None


def test_one_unit_is_done_however_little_time_there_is(tmp_path: Path) -> None:
    """Three parts of one lane: every start does one unit more, and no part is begun when the time has passed."""
    with deadline.within(1e-9), pytest.raises(deadline.OutOfTimeError):
        run_parts(units, [[(str(tmp_path), "a"), (str(tmp_path), "b")]], Bar("x", 6, "units"))
    assert [path.name for path in tmp_path.iterdir()] == ["a-0"]


def test_a_bar_says_how_far_it_came() -> None:
    with pytest.raises(deadline.OutOfTimeError) as caught, bar("x", 7, "units", done=2) as shown:
        shown.update(3)
        raise deadline.OutOfTimeError
    assert caught.value.far == "5 of 7 units"


def test_every_worker_ends_at_a_unit_of_its_own(tmp_path: Path) -> None:
    shown = Bar("x", 6, "units")
    with deadline.within(1e-9), pytest.raises(deadline.OutOfTimeError):
        run_parts(units, [[(str(tmp_path), "a")], [(str(tmp_path), "b")]], shown)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-0", "b-0"] and shown.done == 2
