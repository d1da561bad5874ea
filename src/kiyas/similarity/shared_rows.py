"""How much of their training data two arms share: one measure, for `kiyas check` and for the report."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

from kiyas.similarity.looks import blanks_aside
from kiyas.similarity.near_duplicates import digest
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
    problems: int = 0
    """that both train on, by `dataset.group_by`"""

    @property
    def least(self) -> float:
        """The smaller one of the two arms' shares of rows that the other has too; 1: their rows are the same."""
        return min(self.a_shared / self.a_rows, self.b_shared / self.b_rows)

    @property
    def most(self) -> float:
        return max(self.a_shared / self.a_rows, self.b_shared / self.b_rows)


Keys = Callable[[Example], tuple[Hashable, Hashable]]


def digests(row: Example) -> tuple[bytes, bytes]:
    """Of prompt and completion, blanks aside."""
    return digest(blanks_aside(row.prompt)), digest(blanks_aside(row.completion))


def shared_rows(arms: Mapping[str, Iterable[Example]], keys_of: Keys = digests) -> list[SharedRows]:
    """Every two arms, by what they are trained on: of several draws the first. Arms without rows are left out."""
    keys: dict[str, list[tuple[Hashable, Hashable]]] = {name: [] for name in arms}
    groups: dict[str, set[Hashable]] = {name: set() for name in arms}
    for name, rows in arms.items():
        for row in rows:
            if row.split == "train" and row.draw == 0:
                keys[name].append(keys_of(row))
                groups[name].add(row.group_key)
    return [
        _of_pair(a, b, keys[a], keys[b], len(groups[a] & groups[b]))
        for a, b in itertools.combinations(keys, 2)
        if keys[a] and keys[b]
    ]


def _of_pair(
    a: str, b: str, of_a: list[tuple[Hashable, Hashable]], of_b: list[tuple[Hashable, Hashable]], problems: int
) -> SharedRows:
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
        problems,
    )
