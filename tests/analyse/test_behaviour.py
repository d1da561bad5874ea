"""Behaviour: every class of failure, what is lost and gained, who fails what; nothing missing counts."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kiyas.analyse import Findings, analyse
from kiyas.analyse.behaviour import lost_and_gained, sharing
from kiyas.analyse.failures import exception, failure, other_layout
from kiyas.analyse.findings import Failure, Sharing
from kiyas.analyse.problems import in_random_order, pattern
from kiyas.analyse.tags import keyword_table, tags_of
from kiyas.judge import Problem, Test
from kiyas.report import tables
from kiyas.report.language import Language, languages
from kiyas.runfolder.files import read_jsonl, write_jsonl
from kiyas.stats import inference
from kiyas.types import Judgment
from synthetic import make_run

Row = dict[str, Any]
PROBLEM = Problem("p", (Test("1", "5\n"), Test("2", "Yes\n"), Test("3", "No")))
RIGHT = {"verdict": "AC"}


def row(verdict: str, *tests: Row, **more: Any) -> Row:
    passed = sum(test["verdict"] == "AC" for test in tests)
    return {"program": "print(1)", "verdict": verdict, "passed": passed, "total": 3, "tests": list(tests), **more}


def judgment(row: Row) -> Judgment:
    return Judgment.of({"arm": "a", "problem_id": "p", **row})


def wrong(got: str) -> Row:
    return {"verdict": "WA", "got": got}


@pytest.mark.parametrize(
    ("answer", "cut", "wanted"),
    [
        (row("AC", RIGHT, RIGHT, RIGHT), False, None),
        (row("AC", RIGHT, RIGHT, RIGHT), True, None),
        (row("WA", wrong("7"), RIGHT, RIGHT), True, Failure.RUNAWAY),
        (row("CE", program=""), True, Failure.RUNAWAY),
        (row("CE", program=" \n"), False, Failure.NO_CODE),
        (row("CE", program="def f(:"), False, Failure.SYNTAX),
        (row("RE", program="def f(:"), False, Failure.SYNTAX),
        (row("RE", {"verdict": "RE"}, wrong("5"), RIGHT), False, Failure.CRASH),
        (row("OLE", {"verdict": "OLE"}), False, Failure.OUTPUT),
        (row("TLE", {"verdict": "TLE"}, RIGHT, RIGHT), False, Failure.SLOW),
        (row("MLE", {"verdict": "MLE"}, RIGHT, RIGHT), False, Failure.MEMORY),
        (row("WA", wrong("Answer: 5"), RIGHT, wrong("NO")), False, Failure.FORMAT),
        (row("WA", wrong("Answer: 5"), RIGHT, wrong("yes")), False, Failure.SOME),
        (row("WA", wrong("[5]"), RIGHT, {"verdict": "TLE", "got": ""}), False, Failure.SOME),
        (row("WA", wrong("6"), wrong("No"), wrong("")), False, Failure.EVERYWHERE),
        ({"verdict": "WA", "program": None}, False, Failure.WRONG),
        ({"verdict": "WA", "program": "x", "passed": 1, "total": 3}, False, Failure.SOME),
        ({"verdict": "RE", "program": None}, False, Failure.CRASH),
        ({"verdict": "WA", "passed": 0, "total": 3, "tests": "lost"}, False, Failure.EVERYWHERE),
    ],
)
def test_every_class(answer: Row, cut: bool, wanted: Failure | None) -> None:
    assert failure(judgment(answer), PROBLEM, cut=cut) is wanted
    # Whatever is missing elsewhere, there is a class.
    assert failure(judgment({"verdict": "WA"}), Problem("p", ()), cut=False) is Failure.WRONG


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        ("5.0", "5", True),
        ("(1, 2)", "1 2", True),
        ("1\n2\n3", "1 2 3", True),
        ("1,2,3", "1 2 3", True),
        ("a b c", "abc", True),
        ("yes", "Yes", True),
        ("The result is: 12", "12", True),
        ("07:05", "7:5", True),
        ("3-5", "3 5", True),
        ("-5", "5", False),
        ("5 5", "5", False),
        ("1 3 2", "1 2 3", False),
        ("5.5", "5", False),
        ("", "5", False),
        ("5", "", False),
        ("Yes No", "No", False),
        ("...", "***", False),
    ],
)
def test_the_same_in_another_layout(got: str, expected: str, same: bool) -> None:
    assert other_layout(got, expected, ["Yes", "No"]) is same


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (row("RE", RIGHT, {"verdict": "RE", "stderr": "Traceback\n  File\nIndexError: list index\n"}), "IndexError"),
        (row("RE", {"verdict": "RE", "exception": {"type": "KeyError", "line": 1, "message": ""}}), "KeyError"),
        (row("RE", {"verdict": "RE", "stderr": "Traceback\nmy.Error\n"}), "my.Error"),
        (row("RE", {"verdict": "RE", "stderr": "", "signal": "SIGSEGV"}), "SIGSEGV"),
        (row("RE", {"verdict": "RE", "exit_code": 3}), "exit code 3"),
        ({"verdict": "RE", "detail": "Runtime Error\nValueError: x"}, "ValueError"),
        ({"verdict": "RE", "detail": "it failed somehow"}, ""),
    ],
)
def test_what_a_program_died_of(answer: Row, name: str) -> None:
    assert exception(judgment(answer)) == name


@pytest.mark.parametrize("points", [2, 3, 6])
def test_patterns_in_random_order_by_enumeration(points: int) -> None:
    for solved in range(points + 1):
        orders = list(set(itertools.permutations([True] * solved + [False] * (points - solved))))
        met = Counter(pattern(list(order)) for order in orders)
        chances = in_random_order(points, solved)
        for kind in ("learned", "forgotten", "flickering"):
            assert chances.get(kind, 0) == pytest.approx(met[kind] / len(orders))


def test_who_fails() -> None:
    kinds = {
        (a, b): sharing(a, b) for a in itertools.product([0, 1], repeat=2) for b in itertools.product([0, 1], repeat=2)
    }
    assert kinds[(0, 0), (0, 0)] is Sharing.BOTH and kinds[(1, 1), (1, 1)] is Sharing.NEITHER
    assert kinds[(0, 0), (1, 1)] is Sharing.ONLY_A and kinds[(1, 1), (0, 0)] is Sharing.ONLY_B
    assert Counter(kinds.values())[Sharing.MIXED] == 12


def changes(findings: Findings) -> dict[tuple[str, str], Any]:
    return {(each.arm, each.start.value): each for each in findings.behaviour.lost_and_gained}


@pytest.mark.parametrize("samples", [1, 3])
def test_lost_and_gained_are_counted_by_hand(tmp_path: Path, samples: int) -> None:
    """An answer is compared with each answer; p000 has a missing verdict at a first checkpoint, so it is left out."""
    out = lambda r: {**r, "verdict": "IE"} if (r["problem_id"], r["step"]) == ("p000", 20) else r  # noqa: E731
    run = make_run(tmp_path / "run", seeds=(0, 1), steps=(20, 60, 120), samples=samples, problems=9, change=out)
    right: dict[Any, list[bool]] = {}
    for r in read_jsonl(run / "judge" / "judgments.jsonl"):
        right.setdefault((r["arm"], r["seed"], r["step"], r["problem_id"]), []).append(r["verdict"] == "AC")
    found = changes(analyse(run))
    assert set(found) == {(arm, start) for arm in ("deep", "diverse") for start in ("base", "checkpoint")}
    for (arm, start), each in found.items():
        first = ("base", 0, 0) if start == "base" else None
        problems = [f"p{n:03d}" for n in range(0 if start == "base" else 1, 9)]
        pairs = [
            pair
            for seed, problem in itertools.product((0, 1), problems)
            for pair in itertools.product(right[(*(first or (arm, seed, 20)), problem)], right[arm, seed, 120, problem])
        ]
        per_training = samples**2 * 2
        assert each.problems == len(problems) and each.trainings == 2
        assert each.lost == pytest.approx(sum(a and not b for a, b in pairs) / per_training)
        assert each.gained == pytest.approx(sum(b and not a for a, b in pairs) / per_training)
        assert each.solved == pytest.approx(sum(a for a, _ in pairs) / per_training)
        assert each.net == pytest.approx((each.gained - each.lost) / len(problems))
        assert each.interval.low <= each.net <= each.interval.high


def test_from_where_changes_are_counted(tmp_path: Path) -> None:
    """One judged checkpoint: from the base alone; no base: from the first checkpoint; neither: nothing."""
    of = lambda run: set(changes(analyse(run)))  # noqa: E731
    assert of(make_run(tmp_path / "one", rates={"a": 0.3}, steps=(60,), problems=5)) == {("a", "base")}
    two = make_run(tmp_path / "two", rates={"a": 0.3}, steps=(60, 120), problems=5, base=False)
    assert of(two) == {("a", "checkpoint")}
    assert of(make_run(tmp_path / "none", rates={"a": 0.3}, steps=(60,), problems=5, base=False)) == set()
    missing = lambda r: {**r, "verdict": "IE"} if r["arm"] == "base" else r  # noqa: E731
    lost = make_run(tmp_path / "lost", rates={"a": 0.3}, steps=(60, 120), problems=5, change=missing)
    assert of(lost) == {("a", "checkpoint")}


def test_with_one_training_it_is_mcnemars_test() -> None:
    for lost, gained in ((2, 0), (5, 3), (9, 1), (0, 0)):
        start = np.array([1.0] * lost + [0.0] * gained + [1.0] * 10 + [0.0] * 10)
        end = np.array([0.0] * lost + [1.0] * gained + [1.0] * 10 + [0.0] * 10)
        found = lost_and_gained(np.array([[start, end]]))
        assert found is not None and (found.lost, found.gained, found.solved) == (lost, gained, lost + 10)
        assert found.p == pytest.approx(inference.mcnemar(lost, gained).exact)


def test_no_change_is_no_proof_of_none() -> None:
    """The interval around no change has a width, and shrinks with the problems."""
    widths = []
    for P in (3, 10, 100):
        found = lost_and_gained(np.ones((2, 2, P)))
        assert found is not None and (found.net, found.p) == (0, 1) and found.interval.low == -found.interval.high
        widths.append(found.interval.high)
    assert widths[0] == 1 and widths[1] > 0.2 > 0.02 > widths[2] > 0.01


def test_much_coming_and_going_is_no_loss() -> None:
    """Problems of constant chances, which change early more than late: seldom more lost than gained, nor the reverse.

    The whole simulation, and what a real loss does: benchmarks/forgetting_null.py.
    """
    rng = np.random.default_rng(0)
    decided = 0
    for _ in range(400):
        chance_P = np.where(rng.random(41) < 0.4, 0.002, 1 / (1 + np.exp(-rng.normal(0.2, 1.5, 41))))
        found = lost_and_gained((rng.random((3, 2, 41)) < chance_P).astype(np.float64))
        assert found is not None and found.lost > 0
        decided += found.p < 0.05
    assert decided <= 0.09 * 400
    lost = rng.random((3, 1, 41)) < 0.5
    found = lost_and_gained(np.concatenate([lost, lost & (rng.random((3, 1, 41)) < 0.4)], axis=1).astype(np.float64))
    assert found is not None and found.p < 0.05 and found.interval.high < 0


def test_stuck_half_solved(tmp_path: Path) -> None:
    """p000: 2 of 4 at three checkpoints in a row, p001: stretches broken by a right and by an missing answer."""
    half = {
        ("p000", 40): "0011",
        ("p000", 60): "0111",
        ("p000", 80): "0101",
        ("p001", 20): "0111",
        ("p001", 100): "0011",
    }

    def change(r: Row) -> Row:
        kind = half.get((r["problem_id"], r["step"]), "1111" if r["problem_id"] == "p000" else "0000")
        if (r["problem_id"], r["step"]) == ("p001", 120):
            return {**r, "verdict": "IE"}
        if r["arm"] == "base":
            return r
        tests = [{"verdict": "AC" if c == "1" else "RE"} for c in kind]
        return {**r, "tests": tests, "passed": kind.count("1"), "verdict": "AC" if kind == "1111" else "RE"}

    found = analyse(make_run(tmp_path / "run", seeds=(0,), problems=2, change=change)).behaviour
    assert [(s.training.arm, s.problem) for s in found.stuck] == [("deep", "p000"), ("diverse", "p000")]
    only = found.stuck[0]
    assert (only.from_step, only.to_step, only.checkpoints, only.to_the_end) == (40, 80, 3, False)
    assert (only.passed, only.total, only.failing) == (3, 4, {"1": "RE"})


def test_half_an_owed_answer_ends_a_stretch(tmp_path: Path) -> None:
    def change(r: Row) -> Row:
        half = {**r, "verdict": "WA", "passed": 2, "tests": [{"verdict": "AC"}, {"verdict": "WA"}] * 2}
        return {**half, "verdict": "IE"} if (r["step"], r["sample"]) == (60, 1) else half

    found = analyse(
        make_run(tmp_path / "run", rates={"a": 0.3}, seeds=(0,), problems=1, samples=2, change=change)
    ).behaviour
    assert [(s.from_step, s.to_step, s.failing) for s in found.stuck] == [(80, 120, {"2": "WA", "4": "WA"})]


@pytest.mark.parametrize("how", ["missing", "IE"])
def test_nothing_owed_is_a_failure(tmp_path: Path, how: str) -> None:
    def change(r: Row) -> Row | None:
        if (r["arm"], r["problem_id"]) != ("deep", "p003"):
            return r
        return None if how == "missing" else {**r, "verdict": "IE"}

    run = make_run(tmp_path / "run", steps=(60, 120), problems=12, change=change)
    problems = read_jsonl(run / "data" / "problems.jsonl")
    write_jsonl(run / "data" / "problems.jsonl", [{**p, "tags": ["all", p["id"]]} for p in problems])
    found = analyse(run).behaviour
    deep = next(each for each in found.outcomes if each.arm == "deep")
    assert deep.missing == 3 and deep.answers == 3 * 11 == deep.solved + sum(deep.failures.values())
    assert found.left_out == 1 and len(found.shared) == 11 and "p003" not in {each.problem for each in found.shared}
    assert all(s.problem != "p003" for s in found.stuck if s.training.arm == "deep")
    assert {group.name: group.problems for group in found.groups}["all"] == 11
    assert "p003" not in {group.name for group in found.groups}


def test_counts_and_differences_by_hand(tmp_path: Path) -> None:
    """Arm a crashes on every third problem, b never; runaways are known from the completions."""

    def change(r: Row) -> Row:
        n = int(r["problem_id"][1:])
        if r["arm"] == "a" and n % 3 == 0:
            stderr = "Traceback (most recent call last):\nValueError: no"
            return {**r, "verdict": "RE", "passed": 0, "tests": [{"verdict": "RE", "stderr": stderr}] * 4}
        return {**r, "verdict": "WA", "passed": 0, "tests": [{"verdict": "WA", "got": "x"}] * 4}

    run = make_run(tmp_path / "run", rates={"a": 0.3, "b": 0.3}, seeds=(0, 1), steps=(120,), problems=12, change=change)
    rows = read_jsonl(run / "judge" / "judgments.jsonl")
    keys = ("arm", "variant", "seed", "step", "problem_id", "sample")
    long = lambda r: (r["arm"], r["problem_id"], r["seed"]) == ("b", "p001", 1)  # noqa: E731
    write_jsonl(
        run / "generate" / "completions.jsonl",
        [{**{key: r[key] for key in keys}, "text": "", "stop": "length" if long(r) else "eos"} for r in rows],
    )
    found = analyse(run).behaviour
    of = {each.arm: each for each in found.outcomes}
    assert of["a"].failures == {"crash": 8, "everywhere": 16} and of["a"].exceptions == {"ValueError": 8}
    assert of["b"].failures == {"runaway": 1, "everywhere": 23} and of["b"].solved == 0
    differ = {each.failure: each for each in found.differences}
    assert differ[Failure.CRASH].difference == pytest.approx(-1 / 3) and differ[Failure.CRASH].p == 2 / 2**4
    assert differ[Failure.RUNAWAY].difference == pytest.approx(0.5 / 12)
    assert {each.sharing for each in found.shared} == {Sharing.BOTH}
    assert {each.a for each in found.shared} == {"crash", "everywhere"}


def test_groups_by_tag_difficulty_and_month(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seeds=(0, 1), steps=(120,), problems=12)
    problems = read_jsonl(run / "data" / "problems.jsonl")
    for n, problem in enumerate(problems):
        problem |= {"difficulty": "easy" if n < 8 else "hard", "date": f"2024-0{1 + n // 6}-05"}
        problem["tags"] = ["odd"] if n % 2 else ["even", "half"]
    write_jsonl(run / "data" / "problems.jsonl", problems)
    found = analyse(run).behaviour
    assert found.tags_from == "benchmark"
    names = [(group.kind, group.name, group.problems) for group in found.groups]
    assert names[3:] == [
        ("difficulty", "easy", 8),
        ("difficulty", "hard", 4),
        ("month", "2024-01", 6),
        ("month", "2024-02", 6),
    ]
    assert set(names[:3]) == {("tag", "odd", 6), ("tag", "even", 6), ("tag", "half", 6)}
    rows = [r for r in read_jsonl(run / "judge" / "judgments.jsonl") if r["arm"] == "deep" and r["problem_id"] < "p008"]
    easy = next(group for group in found.groups if group.name == "easy")
    assert easy.rates["deep"] == pytest.approx(np.mean([r["verdict"] == "AC" for r in rows]))
    assert easy.intervals["deep"].low <= easy.rates["deep"] <= easy.intervals["deep"].high


def test_keyword_tags() -> None:
    statements = {
        "Given a string S, count the vowels.": {"strings", "counting"},
        "Find the area of the triangle with these coordinates.": {"geometry"},
        "How many minutes are there between the two times?": {"counting", "time"},
        "Print the number of prime divisors of N.": {"counting", "number theory"},
        "Given an undirected graph, determine whether it is a tree.": {"graphs", "yes or no"},
        "Say hello.": set(),
    }
    source, tags = tags_of({text: Problem(text, (), statement=text) for text in statements})
    assert source == "keywords"
    assert {text: set(found) for text, found in tags.items()} == statements
    assert tags_of({"x": Problem("x", (), title="no statement")}) == ("", {"x": ()})
    assert tags_of({"x": Problem("x", (), tags=("dp", "dp")), "y": Problem("y", (), statement="a string")}) == (
        "benchmark",
        {"x": ("dp",), "y": ()},
    )
    assert all(not words.search("") for words in keyword_table().values())


def test_copies_of_the_training_data(tmp_path: Path) -> None:
    """Arm a writes a training row word for word; the base, which never saw it, does not; b's data are not there."""
    solution = "n = int(input())\nfor i in range(n):\n    print(i * i + 17)"
    copy = lambda r: {**r, "program": solution if r["arm"] == "a" else "print(input())"}  # noqa: E731
    run = make_run(tmp_path / "run", rates={"a": 0.3, "b": 0.3}, seeds=(0, 1), steps=(120,), problems=3, change=copy)
    rows = [
        ("held", "validation", solution),
        ("other", "train", "print('x')"),
        ("seen", "train", f"# {solution}\n{solution}"),
    ]
    write_jsonl(
        run / "data" / "a.jsonl",
        [
            {"id": id, "prompt": id, "group": id, "split": split, "completion": f"So:\n```python\n{text}\n```\n"}
            for id, split, text in rows
        ],
    )
    found = analyse(run).behaviour
    assert found.no_data == ("b",)
    mine, base = found.copying
    assert (mine.data, mine.arm, mine.solutions, mine.programs, base.arm) == ("a", "a", 2, 6, "base")
    assert mine.share == 1 and mine.near == 6 and base.near == 0 and base.run < mine.run == mine.longest
    assert {(each.row, each.near) for each in found.copied} == {("seen", True)}
    of = {each.arm: each for each in found.diversity}
    assert of["a"].programs == 2 and of["a"].trees == 1 and of["a"].problems == 3


def broken(r: Row, rng: random.Random) -> Row:
    """A row of somebody's results: this or that is missing or of another kind."""
    odd: list[Any] = [None, [], "", "text", 3, {}]
    r = {
        key: value
        for key, value in r.items()
        if key in ("arm", "problem_id", "step", "seed", "verdict") or rng.random() < 0.7
    }
    for key in ("tests", "detail", "flags", "extraction", "program"):
        if key in r and rng.random() < 0.3:
            r[key] = rng.choice(odd) if key != "program" else rng.choice([None, "", "x = ("])
    if isinstance(r.get("tests"), list):
        r["tests"] = [{k: v for k, v in t.items() if rng.random() < 0.6} for t in r["tests"]]
    if "passed" not in r or "total" not in r:
        r["passed"] = r["total"] = None
    r["verdict"] = rng.choice([r["verdict"], "RE", "TLE", "OLE", "IE", None])
    return r


def test_rows_with_missing_fields(tmp_path: Path) -> None:
    rng = random.Random(1)
    run = make_run(tmp_path / "run", steps=(60, 120), problems=20, seeds=(0, 1), change=lambda r: broken(r, rng))
    problems = read_jsonl(run / "data" / "problems.jsonl")
    write_jsonl(run / "data" / "problems.jsonl", [{"id": problems[0]["id"]}, {**problems[1], "tags": 3, "tests": None}])
    findings = analyse(run)
    assert (
        Findings.from_json(json.loads(json.dumps(findings.to_json(), allow_nan=False))).to_json() == findings.to_json()
    )
    for language in languages():
        assert all(table.markdown() and table.csv() for table in tables.tables(findings, Language(language)).values())
    assert all(math.isfinite(each.lost) for each in findings.behaviour.lost_and_gained)
