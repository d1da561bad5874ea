"""One decision over everything that a study declared."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiyas.analyse import analyse
from kiyas.analyse.claims import share, together
from kiyas.analyse.findings import Contrast, Decision
from kiyas.runfolder.files import write_json
from kiyas.stats import inference
from kiyas.stats.inference import Interval
from synthetic import make_run, solved_by_one


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=6))
def test_an_interval_at_its_level_excludes_zero_just_where_holm_rejects(p_values: list[float]) -> None:
    shared = share(p_values)
    assert [each.p for each in shared] == inference.holm(p_values)
    for p, each in zip(p_values, shared, strict=True):
        assert (p < each.alpha - 1e-12) == (each.p < 0.05 - 1e-12) or abs(each.p - 0.05) < 1e-9
        assert each.equal == 0.05 / len(p_values) <= each.alpha


def test_the_steps_by_hand() -> None:
    assert [each.alpha for each in share([0.04, 0.001, 0.03])] == pytest.approx([0.025, 0.05 / 3, 0.025])
    assert [each.alpha for each in share([0.001, 0.002])] == pytest.approx([0.025, 0.05])
    assert [each.alpha for each in share([0.2])] == [0.05]
    assert [each.alpha for each in share([0.2, 0.9, 0.5])] == pytest.approx([0.05 / 3] * 3)


def found_with(decision: Decision) -> Contrast:
    nothing = Interval(0, 0)
    return Contrast("a", "b", True, "pair", 1, 1, 0.1, nothing, nothing, None, 0.5, decision, None, (), None, None, 0)


SAID = (Decision.MORE, Decision.UNDECIDED, Decision.LESS)


@pytest.mark.parametrize(("one", "other"), list(itertools.product(SAID, repeat=2)))
def test_both_answers_must_agree(one: Decision, other: Decision) -> None:
    found, clean = together(found_with(one), found_with(other))
    assert found.decision is clean.decision is (one if one is other else Decision.CONTAMINATED)
    assert (found.alone, clean.alone) == (one, other)


def test_every_declared_contrast_needs_both_answers(tmp_path: Path) -> None:
    """All that the declared arms differ in is in problems of the training data."""
    declared: dict[str, Any] = {"primary": ["base", "deep"], "contrasts": [["deep", "diverse"]]}
    run = make_run(tmp_path / "run", problems=120, rates={"deep": 0.3, "diverse": 0.3}, compare=declared)
    leaked = [f"p{i:03d}" for i in range(60)]
    solved_by_one(run, "diverse", leaked)
    matches = [{"problem": id, "row": "1", "share": 1.0} for id in leaked]
    none: dict[str, Any] = {"benchmark": "practice", "problems": 120, "ngram": [], "near": [], "solution": []}
    write_json(run / "data" / "contamination.json", [{**none, "arm": "diverse", "exact": matches}])
    found = next(each for each in analyse(run).contrasts if {each.a, each.b} == {"deep", "diverse"})
    assert (found.declared, found.alone, found.decision) == (True, Decision.MORE, Decision.CONTAMINATED)


def test_a_declared_contrast_without_verdicts_still_shares_the_chance(tmp_path: Path) -> None:
    declared: dict[str, Any] = {"primary": ["base", "deep"], "contrasts": [["base", "diverse"]]}
    gone = lambda row: None if row["arm"] == "diverse" else row  # noqa: E731
    found = analyse(make_run(tmp_path / "run", compare=declared, change=gone)).primary
    assert found is not None and found.holm == pytest.approx(min(1.0, 2 * found.p))
    assert found.interval.level == pytest.approx(0.975)
