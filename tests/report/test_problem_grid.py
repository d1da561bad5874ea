"""The section of problems: which of them decide, the grid's two views, and the texts behind a cell."""

from __future__ import annotations

import base64
import gzip
import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from kiyas.analyse import Findings, analyse
from kiyas.report.grid import FIRST, Deciding, Grid, address, chosen_columns, deciding
from kiyas.report.language import Language, languages
from kiyas.report.payload import chunks
from kiyas.runfolder.files import read_jsonl, write_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.types import AdapterId
from synthetic import make_run

ENGLISH = Language("en")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms × three seeds × two checkpoints and their answers, two to a problem; one verdict is missing."""
    folder = make_run(
        tmp_path_factory.mktemp("grid") / "run",
        rates={"a": 0.25, "b": 0.6},
        steps=(60, 120),
        problems=12,
        samples=2,
        change=lambda row: None if (row["problem_id"], row["step"], row["seed"]) == ("p004", 120, 1) else row,
    )
    rows = read_jsonl(RunDir(folder).judgments)
    who = ("arm", "variant", "seed", "step", "problem_id", "sample")
    rng = random.Random(0)
    said = lambda row: f"{rng.randbytes(60).hex()}\n{row['program']}\nDone."  # noqa: E731
    texts = [{**{key: row[key] for key in who}, "text": said(row)} for row in rows]
    write_jsonl(RunDir(folder).completions, [{**row, "tokens": 5, "stop": "eos"} for row in texts])
    problems = read_jsonl(RunDir(folder).problems)
    write_jsonl(RunDir(folder).problems, [{**row, "tags": [f"tag {n % 3}"]} for n, row in enumerate(problems)])
    return folder


@pytest.fixture(scope="module")
def findings(run: Path) -> Findings:
    return analyse(run)


def reference(run: Path) -> dict[str, tuple[int, int]]:
    """The dull way: how many last checkpoints of a, and of b, have at least half of their answers right."""
    right: dict[tuple[str, str, int], list[bool]] = {}
    for row in read_jsonl(RunDir(run).judgments):
        if row["step"] == 120:
            right.setdefault((row["problem_id"], row["arm"], row["seed"]), []).append(row["verdict"] == "AC")
    solved = {key: sum(of) / len(of) >= 0.5 for key, of in right.items()}
    problems = {problem for problem, _, _ in solved}
    return {p: tuple(sum(solved.get((p, arm, s), False) for s in range(3)) for arm in "ab") for p in problems}  # type: ignore[misc]


def test_what_decides_agrees_with_a_plain_count(run: Path, findings: Findings) -> None:
    wanted = {p: (a, b) for p, (a, b) in reference(run).items() if a != b and p != "p004"}
    decision = deciding(findings, ENGLISH)
    assert decision is not None
    for (_, first, others), sign in zip(decision.lists, (1, -1), strict=False):
        listed = [*first, *others]
        gaps = [(each.solved[1] - each.solved[0]) * sign for each in listed]
        assert gaps == sorted(gaps, reverse=True) and min(gaps) > 0 and len(first) <= FIRST
        for each in listed:
            assert each.title == f"Problem {int(each.problem[1:])}" and each.tags == (
                f"tag {int(each.problem[1:]) % 3}",
            )
    found: dict[str, Deciding] = {each.problem: each for _, *lists in decision.lists for part in lists for each in part}
    assert {problem: each.solved for problem, each in found.items()} == wanted
    assert f"{len(wanted)} of 11 problems" in decision.lead and "at least half of its answers" in decision.lead
    assert "Left out" in decision.lead, "p004 lacks a verdict"


def test_the_link_opens_a_pair_in_which_the_arms_differ(run: Path, findings: Findings) -> None:
    rows = read_jsonl(RunDir(run).judgments)
    decision = deciding(findings, ENGLISH)
    assert decision is not None
    for _, first, others in decision.lists:
        for each in (*first, *others):
            asked = parse_qs(each.link.removeprefix("#"))
            right = {}
            for side, key in enumerate(("checkpoint", "beside")):
                who = AdapterId.parse_folder(asked[key][0])
                of = [r for r in rows if r["problem_id"] == each.problem and AdapterId.of(r) == who]
                right[side] = sum(r["verdict"] == "AC" for r in of) >= 1
                assert who.arm == "ab"[side] and who.step == 120
            assert asked["problem"] == [each.problem]
            assert right[1] - right[0] == (1 if each.solved[1] > each.solved[0] else -1)


@pytest.mark.parametrize("id", ["p/1", "a b+c", "&=#%?", "ığ\u2028", "\ud800"])
def test_an_address_reads_back(id: str) -> None:
    asked = parse_qs(address(id, AdapterId("x&y", "lr-0.1", 2, 30), AdapterId("base")).removeprefix("#"))
    assert asked["problem"] == [id.replace("\ud800", "?")]
    assert asked["checkpoint"] == ["x&y/lr-0.1/seed-2/step-000030"] and asked["beside"] == ["base"]


def test_against_the_base(tmp_path: Path) -> None:
    findings = analyse(make_run(tmp_path / "one", rates={"a": 0.5}, steps=(60,), problems=9))
    for words in map(Language, languages()):
        decision = deciding(findings, words)
        assert decision is not None and [side.seeds for side in decision.sides] == [1, 3]
        assert decision.sides[0].label == words("cell.base")


def test_where_nothing_is_compared(tmp_path: Path) -> None:
    findings = analyse(make_run(tmp_path / "run", rates={"a": 0.5}, steps=(60,), problems=3, base=False))
    assert Grid.of(findings, ENGLISH).decision is None


def test_the_views_are_the_chosen_checkpoints_and_all(findings: Findings) -> None:
    grid = Grid.of(findings, ENGLISH)
    chosen, every = grid.data["views"]
    assert [grid.data["keys"][i] for i in chosen["columns"]] == [
        "base",
        *(f"{arm}/seed-{seed}/step-000120" for arm in "ab" for seed in range(3)),
    ]
    assert every["columns"] == list(range(13)) and grid.chosen == chosen["columns"]
    for view, groups in ((chosen, [1, 3, 3]), (every, [1, 2, 2, 2, 2, 2, 2])):
        assert [group["columns"] for group in view["groups"]] == groups
        assert len(view["labels"]) == len(view["columns"])
    assert [i for i, (_, _, marked) in enumerate(every["labels"]) if marked] == chosen["columns"][1:]
    assert grid.tags == ["tag 0", "tag 1", "tag 2"] and "mixed" in grid.used
    for row, line in zip(grid.rows, findings.grid, strict=True):
        for view, (kind, solved, verdicts) in enumerate(zip(row["kinds"], row["solved"], row["verdicts"], strict=True)):
            cells = [line.cells[i] for i in grid.data["views"][view]["columns"]]
            whole = [cell.right == cell.samples == 2 for cell in cells]
            assert solved == sum(whole)
            assert kind == ("always" if all(whole) else "differ" if any(cell.right for cell in cells) else "never")
            assert ("½" in verdicts) == any(cell.right == 1 and cell.samples == 2 for cell in cells)


def test_one_view_is_enough_where_all_are_chosen(tmp_path: Path) -> None:
    grid = Grid.of(analyse(make_run(tmp_path / "run", steps=(60,), problems=3)), ENGLISH)
    assert grid.views == 1 == len(grid.data["views"])
    assert all(len(row["kinds"]) == 1 for row in grid.rows)


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_the_answer_is_what_is_around_its_program(run: Path, findings: Findings) -> None:
    texts = {}
    for row in read_jsonl(RunDir(run).completions):
        texts[AdapterId.of(row), row["problem_id"], row["sample"]] = row["text"]
    for line, text in zip(findings.grid, chunks(run, findings, chosen_columns(findings), 10**7), strict=True):
        problem = unpacked(text)
        for adapter, cell in zip(findings.columns, problem["cells"], strict=True):
            for n, k in enumerate(cell):
                sample = problem["samples"][k]
                before, after = sample["answer"]
                assert before + sample["program"] + after == texts[adapter, line.problem, n]


def test_equal_samples_are_stored_once(tmp_path: Path) -> None:
    change = lambda row: {**row, "program": "print(1)", "verdict": "AC", "tests": [], "passed": 4}  # noqa: E731
    run = make_run(tmp_path / "run", problems=2, change=change)
    findings = analyse(run)
    for text in chunks(run, findings, [], 10**6):
        problem = unpacked(text)
        assert len(problem["samples"]) == 1 and problem["cells"] == [[0]] * 37


def test_with_little_room_the_chosen_checkpoints_stay_whole(run: Path, findings: Findings) -> None:
    chosen = chosen_columns(findings)
    whole = chunks(run, findings, chosen, 10**7)
    lean = [unpacked(text) for text in chunks(run, findings, chosen, sum(map(len, whole)) - 1)]
    for problem, before in zip(lean, map(unpacked, whole), strict=True):
        for j, (cell, all_of_it) in enumerate(zip(problem["cells"], before["cells"], strict=True)):
            for k, m in zip(cell, all_of_it, strict=True):
                sample, complete = problem["samples"][k], before["samples"][m]
                if j in chosen:
                    assert sample == complete
                    continue
                assert sample["program"] == complete["program"] and sample["left_out"] and "answer" not in sample
                assert sample.get("failing", [])[:1] == complete.get("failing", [])[:1]
                assert all(failing["left_out"] for failing in sample.get("failing", [])[1:])
