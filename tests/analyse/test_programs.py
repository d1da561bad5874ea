"""Programs as texts against dull references: longest common runs and near-duplicates by loops over all pairs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiyas.analyse.programs import GRAM, Overlap, behaviour_on_tests, code, matches, tokens
from kiyas.types import Judgment

Tokens = list[str]


def run_by_hand(a: Tokens, b: Tokens) -> int:
    """Longest common run by the textbook table."""
    best, row = 0, [0] * (len(b) + 1)
    for x in a:
        row = [0, *(row[j] + 1 if x == y else 0 for j, y in enumerate(b))]
        best = max(best, *row)
    return best


def near_by_hand(a: Tokens, b: Tokens) -> bool:
    x, y = ({tuple(text[i : i + GRAM]) for i in range(len(text) - GRAM + 1)} for text in (a, b))
    return bool(x and y) and 5 * len(x & y) >= 4 * len(x | y)


def check(programs: list[Tokens], solutions: list[Tokens]) -> list[Overlap]:
    found = matches(programs, iter(solutions))
    assert len(found) == len(programs)
    for program, match in zip(programs, found, strict=True):
        runs = [run_by_hand(program, solution) for solution in solutions]
        assert match.tokens == len(program) and match.run == max(runs, default=0)
        assert match.run == (runs[match.solution] if match.solution >= 0 else 0)
        assert match.near == any(near_by_hand(program, solution) for solution in solutions)
    return found


words = st.lists(st.sampled_from("abcd"), max_size=24)


@settings(max_examples=120, deadline=None)
@given(st.lists(words, max_size=5), st.lists(words, max_size=6))
def test_runs_and_near_duplicates_are_those_of_the_loops(programs: list[Tokens], solutions: list[Tokens]) -> None:
    check(programs, solutions)


def test_solutions_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiyas.analyse.programs.PART", 100)
    rng = random.Random(1)
    solutions = [[str(rng.randrange(9)) for _ in range(rng.randint(0, 40))] for _ in range(60)]
    programs = [*(solutions[i][rng.randrange(9) :] for i in range(0, 60, 3)), []]
    check(programs, solutions)


def test_programs_close_to_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solutions with a few tokens changed: some pairs on either side of 0.8. Many blocks, a few pairs at a time."""
    monkeypatch.setattr("kiyas.analyse.programs._BLOCK", 7)
    monkeypatch.setattr("kiyas.analyse.programs._PAIRS", 5)
    rng = random.Random(0)
    solutions = [[str(rng.randrange(30)) for _ in range(rng.randint(3, 90))] for _ in range(30)]
    programs = []
    for _ in range(60):
        program = list(rng.choice(solutions))
        for _ in range(rng.randint(0, 3)):
            program[rng.randrange(len(program))] = "new"
        programs.append(program)
    found = check(programs, solutions)
    assert 10 < sum(match.near for match in found) < 55


def test_real_programs(shared_data: Path) -> None:
    rows = [
        json.loads(line)
        for path in sorted((shared_data / "study-a" / "outcomes").glob("*.jsonl"))[:2]
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    programs = [tokens(str(row["extracted_code"])) for row in rows if row.get("extracted_code")]
    assert len(programs) > 60
    check(programs[:20], programs[20:60])


def test_tokens_leave_comments_and_layout_aside() -> None:
    assert tokens("for i in range(3):  # count\n\n    print('a b')\n") == tokens("for i in range( 3 ):\n\tprint('a b')")
    assert tokens("x = (1,\n") == ["x", "=", "(", "1", ","] and tokens("") == []
    assert code("Text\n```python\na = 1\n```\nmore\n```\nb = 2\n```") == "a = 1\nb = 2\n" and code("a = 1") == "a = 1"


@pytest.mark.parametrize("text", ["def f(:", "x = '\x00'", "((" * 5000, "\ud800"])
def test_what_does_not_parse_has_tokens(text: str) -> None:
    tokens(text)


def test_behaviour_is_what_the_tests_saw() -> None:
    right, wrong = {"verdict": "AC"}, {"verdict": "WA", "got": "4"}

    def behaviour(*tests: object, **row: object) -> object:
        return behaviour_on_tests(Judgment.of({"arm": "a", "problem_id": "p", "verdict": "WA", "tests": tests, **row}))

    assert behaviour(right, wrong) == (("AC", ""), ("WA", "4"))
    assert behaviour(right, {**wrong, "got": "5"}) != (("AC", ""), ("WA", "4"))
    assert behaviour() is behaviour(tests=None) is behaviour("AC") is None
