"""How much of their training data two arms share: one measure, for `kiyas check` and for the report."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kiyas.types import Example


@dataclass(frozen=True)
class SharedRows:
    """Training rows of two arms. Rows are the same where prompt and completion are, up to white space."""

    a: str
    b: str
    a_rows: int
    b_rows: int
    a_shared: int
    """rows of `a` that `b` has too"""
    b_shared: int
    a_prompts: int
    """rows of `a` whose prompt `b` has too, with this completion or another"""
    b_prompts: int

    @property
    def least(self) -> float:
        """The smaller one of the two arms' shares of rows that the other has too; 1: their rows are the same."""
        return min(self.a_shared / self.a_rows, self.b_shared / self.b_rows)

    @property
    def most(self) -> float:
        return max(self.a_shared / self.a_rows, self.b_shared / self.b_rows)


def shared_rows(arms: Mapping[str, Sequence[Example]]) -> list[SharedRows]:
    """Every two arms, by what they are trained on: of several draws the first. Arms without rows are left out."""
    trained = {name: [row for row in rows if row.split == "train" and row.draw == 0] for name, rows in arms.items()}
    keys = {name: [(_plain(row.prompt), _plain(row.completion)) for row in rows] for name, rows in trained.items()}
    return [_of_pair(a, b, keys[a], keys[b]) for a, b in itertools.combinations(keys, 2) if keys[a] and keys[b]]


def _of_pair(a: str, b: str, of_a: list[tuple[str, str]], of_b: list[tuple[str, str]]) -> SharedRows:
    rows = set(of_a) & set(of_b)
    prompts = {prompt for prompt, _ in of_a} & {prompt for prompt, _ in of_b}
    return SharedRows(
        a,
        b,
        len(of_a),
        len(of_b),
        sum(key in rows for key in of_a),
        sum(key in rows for key in of_b),
        sum(prompt in prompts for prompt, _ in of_a),
        sum(prompt in prompts for prompt, _ in of_b),
    )


def _plain(text: str) -> str:
    return " ".join(text.split())
