"""Benchmark problems that are in a training set: whole, in long runs of words, nearly the same, by their solution."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kiyas.similarity import near_duplicates
from kiyas.similarity.looks import Prompts, Wanted, look_at_prompts, solutions_in
from kiyas.similarity.near_duplicates import Statements
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
    prompts: Prompts | None = None,
    solved: Mapping[Hashable, Sequence[str]] | None = None,
) -> list[Contamination]:
    """One benchmark against the training rows of every arm. `solutions`: the benchmark's own, by problem id.

    `prompts`, `solved` (completion → problems whose solution is in it): what was seen before of these rows and others.
    """
    statements = [(row["id"], row["statement"]) for row in problems]
    wanted = Wanted.of([[statement for _, statement in statements]], solutions)
    if prompts is None:
        prompts = Prompts.of(row for rows in arms.values() for row in rows)
        prompts.take([look_at_prompts(wanted, [row.prompt for row in prompts.example])])
    if solved is None:
        completions = {row.completion_key: row for rows in arms.values() for row in rows}
        seen = solutions_in(wanted, [row.completion for row in completions.values()])
        solved = dict(zip(completions, seen, strict=True))
    asked = Statements.of([statement for _, statement in statements])
    own = asked.own
    held = {gram: holders for gram, holders in prompts.holders.items() if gram in own}
    plain = [near_duplicates.digest(near_duplicates.normalised(statement)) for _, statement in statements]
    wanted_plain = set(plain)
    near = _near([statement for _, statement in statements], prompts)
    rank: dict[int, int] = {}
    for rows in arms.values():
        for row in rows:
            rank.setdefault(prompts.number[row.prompt_key], len(rank))
    of_rank = list(rank)
    found = []
    for name, rows in arms.items():
        row_of = {prompts.number[row.prompt_key]: row.id for row in reversed(rows)}
        exact = {text: key for key in reversed(row_of) if (text := prompts.prints.plain[key]) in wanted_plain}
        covered = asked.most_covered(
            {gram: {rank[key] for key in holders if key in row_of} for gram, holders in held.items()}
        )
        kinds: dict[str, list[Match]] = {"exact": [], "ngram": [], "near": [], "solution": []}
        inside: dict[str, str] = {}
        for row in rows:
            for id in solved.get(row.completion_key, ()):
                inside.setdefault(id, row.id)
        for at, (id, statement) in enumerate(statements):
            hit = covered[at]
            key = -1 if hit is None else of_rank[hit.key]
            alike = max(((share, rank[key]) for key, share in near[at].items() if key in row_of), default=None)
            if plain[at] in exact:
                kinds["exact"].append(Match(id, row_of[exact[plain[at]]], 1.0))
            elif hit is not None and _holds(prompts.example[key].prompt, statement):
                kinds["exact"].append(Match(id, row_of[key], 1.0))
            elif hit is not None and hit.share >= near_duplicates.COVERED:
                kinds["ngram"].append(Match(id, row_of[key], hit.share))
            elif alike is not None:
                kinds["near"].append(Match(id, row_of[of_rank[alike[1]]], alike[0]))
            elif id in inside:
                kinds["solution"].append(Match(id, inside[id], 1.0))
        found.append(
            Contamination(benchmark, name, len(problems), **{kind: tuple(each) for kind, each in kinds.items()})
        )
    return found


def _holds(prompt: str, statement: str) -> bool:
    return near_duplicates.normalised(statement) in near_duplicates.normalised(prompt)


def _near(statements: Sequence[str], prompts: Prompts) -> list[dict[int, float]]:
    """For each statement the prompts that MinHash proposes and that are near, with their similarity."""
    bands, sets = near_duplicates.prints(statements).bands, list(map(near_duplicates.shingles, statements))
    proposed: dict[int, set[int]] = {}
    for band in range(near_duplicates.BANDS):
        of_band = prompts.prints.bands[:, band]
        for key in np.flatnonzero(np.isin(of_band, bands[:, band])).tolist():
            proposed.setdefault(key, set()).update(np.flatnonzero(bands[:, band] == of_band[key]).tolist())
    found: list[dict[int, float]] = [{} for _ in statements]
    for key, places in proposed.items():
        of = near_duplicates.shingles(prompts.example[key].prompt)
        for at in places:
            share = near_duplicates.jaccard(of, sets[at])
            if share >= near_duplicates.NEAR:
                found[at][key] = share
    return found
