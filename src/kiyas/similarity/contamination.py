"""Benchmark problems that are in a training set: whole, in long runs of words, nearly the same, by their solution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kiyas.similarity import near_duplicates
from kiyas.types import Example


@dataclass(frozen=True)
class Match:
    """A benchmark problem found in a training set, where, and how alike (0 to 1)."""

    problem: str
    row: str
    share: float


@dataclass(frozen=True)
class Contamination:
    """One benchmark against the training rows of one arm. Each tuple is of benchmark problems, strongest kind first;
    a problem is listed under the first kind that it shows."""

    benchmark: str
    arm: str
    problems: int
    """of the benchmark"""
    exact: tuple[Match, ...]
    """the statement, words only, is the prompt or is contained in it"""
    ngram: tuple[Match, ...]
    """near_duplicates.COVERED of its words are in shared runs of near_duplicates.NGRAM words"""
    near: tuple[Match, ...]
    """Jaccard similarity of near_duplicates.NEAR or more"""
    solution: tuple[Match, ...]
    """the benchmark's own solution is in a completion"""

    @property
    def found(self) -> list[str]:
        """Ids of all contaminated problems."""
        return sorted({match.problem for kind in (self.exact, self.ngram, self.near, self.solution) for match in kind})


def contamination(
    benchmark: str,
    problems: Sequence[dict[str, Any]],
    solutions: Mapping[str, str],
    arms: Mapping[str, Sequence[Example]],
) -> list[Contamination]:
    """One benchmark against the training rows of every arm. `solutions`: the benchmark's own, by problem id."""
    statements = [(row["id"], row["statement"]) for row in problems]
    prompts = list(dict.fromkeys(row.prompt for rows in arms.values() for row in rows))
    number = {prompt: i for i, prompt in enumerate(prompts)}
    plain = [near_duplicates.normalised(prompt) for prompt in prompts]
    # The statements are few: they are the index, and every prompt is asked once, whatever arms it is in.
    index = near_duplicates.Near()
    for at, (_, statement) in enumerate(statements):
        index.add(at, statement)
    near = [dict(index.find(prompt)) for prompt in prompts]
    found = []
    for name, rows in arms.items():
        row_of = {number[row.prompt]: row.id for row in reversed(rows)}
        exact = {text: key for key in reversed(row_of) if (text := plain[key])}
        covered = near_duplicates.covered(
            [statement for _, statement in statements], ((key, prompts[key]) for key in row_of)
        )
        kinds: dict[str, list[Match]] = {"exact": [], "ngram": [], "near": [], "solution": []}
        inside = _solutions_in(solutions, rows)
        for at, (id, statement) in enumerate(statements):
            text, hit = near_duplicates.normalised(statement), covered[at]
            alike = max(((near[key][at], key) for key in row_of if at in near[key]), default=None)
            if text in exact:
                kinds["exact"].append(Match(id, row_of[exact[text]], 1.0))
            elif hit is not None and text in plain[hit.key]:
                kinds["exact"].append(Match(id, row_of[hit.key], 1.0))
            elif hit is not None and hit.share >= near_duplicates.COVERED:
                kinds["ngram"].append(Match(id, row_of[hit.key], hit.share))
            elif alike is not None:
                kinds["near"].append(Match(id, row_of[alike[1]], alike[0]))
            elif id in inside:
                kinds["solution"].append(Match(id, inside[id], 1.0))
        found.append(
            Contamination(benchmark, name, len(problems), **{kind: tuple(each) for kind, each in kinds.items()})
        )
    return found


def _solutions_in(solutions: Mapping[str, str], rows: Sequence[Example]) -> dict[str, str]:
    """Which of the benchmark's solutions are in which row's completion, blanks aside.

    Solutions shorter than near_duplicates.NGRAM tokens are common (`return sorted(set(l))`) and say nothing.
    """
    wanted = {id: " ".join(text.split()) for id, text in solutions.items() if near_duplicates.is_long(text)}
    found: dict[str, str] = {}
    for row in rows:
        completion = " ".join(row.completion.split()) if wanted else ""
        for id, text in wanted.items():
            if text in completion:
                found.setdefault(id, row.id)
    return found
