"""Answers decoded again: counted as they are, and what their flips can do to a difference."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kiyas import report
from kiyas.analyse import Findings, analyse
from kiyas.analyse.numerical_floor import moved
from kiyas.report import sentences, tables
from kiyas.report.language import Language, suffix
from kiyas.runfolder.files import read_jsonl, write_jsonl
from kiyas.runfolder.paths import RunDir
from synthetic import make_run

Row = dict[str, Any]
VERDICT = {"p001": "AC", "p002": "WA", "p003": "AC", "p004": "WA"}
AGAIN = {"p001": "WA", "p002": "AC", "p003": "AC", "p004": "TLE"}


def made(folder: Path, again: dict[str, str] = AGAIN) -> Path:
    """Both arms answer four problems again; of `deep` p005 too, whose first verdict is missing."""

    def known(row: Row) -> Row:
        if (row["arm"], row["problem_id"]) == ("deep", "p005"):
            return {**row, "verdict": "IE"} if row["step"] == 60 else row
        return {**row, "verdict": VERDICT.get(row["problem_id"], "AC")}

    run = make_run(folder, steps=(60, 120), seeds=(0, 1), problems=12, change=known)
    rows = [row for row in read_jsonl(run / "judge" / "judgments.jsonl") if row["seed"] == 0 and row["arm"] != "base"]
    write_jsonl(run / "generate" / "completions.jsonl", [{**_key(row), "text": "a", "stop": "eos"} for row in rows])
    twice = [row for row in rows if row["step"] == 120 and row["problem_id"] in again]
    twice += [row for row in rows if (row["arm"], row["step"], row["problem_id"]) == ("deep", 60, "p005")]
    text = lambda row: "a" if row["problem_id"] == "p003" else "b"  # noqa: E731
    write_jsonl(RunDir(run).redecoded, [{**_key(row), "text": text(row), "stop": "eos"} for row in twice])
    write_jsonl(
        RunDir(run).redecoded_judgments,
        [
            {**row, "verdict": again.get(row["problem_id"], "AC"), "program": row["program"] + "x" * (text(row) == "b")}
            for row in twice
        ],
    )
    return run


def _key(row: Row) -> Row:
    return {key: row[key] for key in ("arm", "variant", "seed", "step", "problem_id", "sample")}


def test_flips_are_counted_either_way_and_missing_verdicts_are_not(tmp_path: Path) -> None:
    findings = analyse(made(tmp_path / "run"))
    found = findings.numerical_floor
    assert found is not None
    counts = [(a.arm, a.answers, a.texts, a.programs, a.lost, a.gained) for a in found.arms]
    assert counts == [("deep", 4, 3, 3, 1, 1), ("diverse", 4, 3, 3, 1, 1)], "WA to TLE is no flip"
    assert found.rate == 0.5 and found.interval.low < 0.5 < found.interval.high
    assert found.moved == pytest.approx((2 * 0.5 / (12 * 2)) ** 0.5)
    assert Findings.from_json(findings.to_json()).numerical_floor == found
    assert analyse(make_run(tmp_path / "older", steps=(60,), problems=4)).numerical_floor is None


def test_how_far_flips_move_a_difference(tmp_path: Path) -> None:
    """Each answer of each arm has a chance of its own; decoded twice, the difference of the arms moves by that much."""
    primary = analyse(make_run(tmp_path / "run", steps=(60,), seeds=(0, 1, 2), problems=40)).primary
    assert primary is not None
    rng = np.random.default_rng(0)
    chance = np.where(rng.random((2, 3, 40)) < 0.2, rng.random((2, 3, 40)), rng.random((2, 3, 40)) < 0.4)
    first, second = (rng.random((20_000, 2, 3, 40)) < chance for _ in range(2))
    rate = (first != second).mean()
    difference = [each[:, 1].mean(axis=(1, 2)) - each[:, 0].mean(axis=(1, 2)) for each in (first, second)]
    assert moved(primary, rate) == pytest.approx((difference[1] - difference[0]).std(), rel=0.02)
    assert moved(None, rate) is None


@pytest.mark.parametrize("language", ["en", "tr"])
def test_the_report_says_it_beside_the_control(tmp_path: Path, language: str) -> None:
    run, words = made(tmp_path / "run"), Language(language)
    findings = analyse(run)
    more = sentences.conclusion(findings, words).more
    said = next(each for each in more if "8" in each and words.percent(0.5) in each)
    control = [i for i, each in enumerate(more) if each.startswith("A/A")]
    assert control[-1] + 1 == more.index(said)
    page = report.write(run, findings, language=language).read_text(encoding="utf-8")
    assert said in re.sub("<[^>]*>", "", page).replace("&#39;", "'") and words("table.redecoded") in page
    assert said.split(":")[0] in report.text(findings, language=language)
    assert said.split(":")[0] in (run / "report" / f"report{suffix(language, 'en')}.md").read_text(encoding="utf-8")
    table = tables.tables(findings, words)["redecoded"]
    assert [(row["arm"], row["answers"], row["right_to_wrong"]) for row in table.raw] == [
        ("deep", 4, 1),
        ("diverse", 4, 1),
    ]


def test_without_a_flip_nothing_is_called_rounding(tmp_path: Path) -> None:
    findings = analyse(made(tmp_path / "run", again=VERDICT))
    (said,) = [each for each in sentences.conclusion(findings, Language()).more if "decoded again" in each]
    assert "no verdict flipped" in said and "at the upper end" in said
