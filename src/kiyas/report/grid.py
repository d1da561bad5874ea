"""The section of problems: those that decide, and the grid of problems × checkpoints.

The page's script builds the grid from `Grid.data`. It has two views: the chosen checkpoints side by side, and all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from kiyas.analyse.findings import Cell, Findings, GridRow
from kiyas.report import charts, sentences
from kiyas.report.language import Language, phrases
from kiyas.types import BASE_ARM, AdapterId

MIXED = "mixed"
"""Some answers of a cell are right, others not."""
LETTERS = {
    "AC": "A",
    "WA": "W",
    "TLE": "T",
    "MLE": "M",
    "RE": "R",
    "OLE": "O",
    "CE": "C",
    "IE": "!",
    "missing": "?",
    MIXED: "½",
}
FIRST = 2
"""Problems that decide in favour of one arm and are seen without unfolding."""
FEW_COLUMNS = 10
"""Up to here the chosen checkpoints have room for words."""
SOLVED = 0.5
"""From this share of right answers on, a checkpoint solves a problem (as in `analyse.behaviour`)."""


@dataclass(frozen=True)
class Side:
    """One arm of the comparison: how many of its chosen checkpoints there are."""

    label: str
    colour: str
    seeds: int


class Deciding(NamedTuple):
    """A problem that a larger share of one arm's seeds solves: `solved` counts each side's; `link` opens the diff."""

    problem: str
    title: str
    tags: tuple[str, ...]
    solved: tuple[int, int]
    link: str


@dataclass(frozen=True)
class Decision:
    """`lists`: for each side that solves some more often, the heading, the first problems and the others."""

    sides: tuple[Side, Side]
    lead: str
    lists: list[tuple[str, list[Deciding], list[Deciding]]]


@dataclass(frozen=True)
class Grid:
    """`rows`, `used` (verdicts that occur), `tags` for the template; `data` for the script; `chosen` columns."""

    chosen: list[int]
    rows: list[dict[str, Any]]
    used: list[str]
    tags: list[str]
    views: int
    decision: Decision | None
    data: dict[str, Any]

    @classmethod
    def of(cls, findings: Findings, words: Language) -> Grid:
        every = list(range(len(findings.columns)))
        chosen = chosen_columns(findings)
        views = [_chosen_view(findings, words, chosen)]
        if chosen != every:
            views.append(_all_view(findings, words, every, chosen))
        judged = findings.grid if findings.columns else ()
        rows = [_row(row, [view["columns"] for view in views]) for row in judged]
        used = {_shown(cell) for row in findings.grid for cell in row.cells}
        data = {
            "rows": rows,
            "letters": {letter: verdict for verdict, letter in LETTERS.items()},
            "columns": [_column(words, adapter) for adapter in findings.columns],
            "keys": [str(adapter) for adapter in findings.columns],
            "views": views,
            "partners": [partner(findings, adapter) for adapter in findings.columns],
            "words": {
                key: phrase
                for key, phrase in phrases(words.language).items()
                if key.split(".")[0] in ("grid", "verdict")
            },
        }
        tags = sorted({tag for row in findings.grid for tag in row.tags}, key=str.casefold)
        return cls(chosen, rows, [v for v in LETTERS if v in used], tags, len(views), deciding(findings, words), data)


def chosen_columns(findings: Findings) -> list[int]:
    """The columns of the base and of the checkpoints that represent the arms; all where none were chosen."""
    chosen = {adapter for result in findings.results for adapter in result.adapters}
    found = [i for i, adapter in enumerate(findings.columns) if adapter.is_base or adapter in chosen]
    return found or list(range(len(findings.columns)))


def address(problem: str, checkpoint: AdapterId, beside: AdapterId) -> str:
    """The part of the page's address that opens a problem at two checkpoints; grid.js writes and reads the same."""

    def part(text: object) -> str:
        return quote(str(text), safe="/!~*'()", errors="replace")

    return f"#problem={part(problem)}&checkpoint={part(checkpoint)}&beside={part(beside)}"


def deciding(findings: Findings, words: Language) -> Decision | None:
    """Which problems one arm's seeds solve more often, the clearest first. None where nothing was compared."""
    compared = findings.behaviour.shared
    if not compared:
        return None
    adapters = {result.arm: result.adapters for result in findings.results}
    a, b = (adapters[arm] for arm in findings.wanted)
    place = {adapter: i for i, adapter in enumerate(findings.columns)}
    rows = {row.problem: row for row in findings.grid}
    paired = [(pair.a, pair.b) for pair in findings.primary.pairs] if findings.primary else []
    pairs = [*paired, *itertools.product(a, b)]

    found: list[tuple[float, Deciding]] = []
    for each in compared:
        right = {adapter: _right(rows[each.problem].cells[place[adapter]]) for adapter in (*a, *b)}
        solved = sum(right[adapter] for adapter in a), sum(right[adapter] for adapter in b)
        more = solved[1] / len(b) - solved[0] / len(a)
        if more:
            left, beside = next(pair for pair in pairs if right[pair[1]] - right[pair[0]] == (1 if more > 0 else -1))
            title = each.title if each.title != each.problem else ""
            link = address(each.problem, left, beside)
            found.append((more, Deciding(each.problem, title, each.tags, solved, link)))
    found.sort(key=lambda each: -abs(each[0]))

    sides = tuple(
        Side(sentences.arm_name(words, arm), charts.arm_colour(findings, arm), len(those))
        for arm, those in zip(findings.wanted, (a, b), strict=True)
    )
    lists = []
    for side, sign in ((sides[1], 1), (sides[0], -1)):
        those = [problem for more, problem in found if more * sign > 0]
        if those:
            heading = words("decide.more", arm=side.label, n=len(those))
            lists.append((heading, those[:FIRST], those[FIRST:]))
    return Decision((sides[0], sides[1]), _lead(findings, words, found, (len(a), len(b))), lists)


def _lead(findings: Findings, words: Language, found: Sequence[tuple[float, Deciding]], seeds: tuple[int, int]) -> str:
    alone = sum(abs(more) == 1 for more, _ in found)
    key = "decide.none" if not found else "decide.lead_single" if max(seeds) == 1 else "decide.lead"
    said = [words(key, n=len(found), of=len(findings.behaviour.shared))]
    if alone and max(seeds) > 1:
        said.append(words("decide.alone", n=alone))
    if found:
        said.append(words("decide.chance"))
    if findings.samples > 1:
        said.append(words("decide.samples"))
    if findings.behaviour.left_out:
        said.append(words("behaviour.left_out", n=findings.behaviour.left_out))
    return " ".join(said)


def _right(cell: Cell) -> bool:
    return cell.samples > 0 and cell.right / cell.samples >= SOLVED


def partner(findings: Findings, adapter: AdapterId) -> int | None:
    """The column that `adapter` is compared with unless another is chosen; None if there is no other.

    It is the other arm of the primary contrast, the base for arms outside of it: the checkpoint it was paired with,
    else that of the same seed and learning rate whose step is nearest. Beside the base it is a chosen one.
    """
    chosen = {one for result in findings.results for one in result.adapters}
    primary = findings.primary
    pairs = [(pair.a, pair.b) for pair in primary.pairs] if primary else []
    paired = {side for pair in pairs if adapter in pair for side in pair}
    sides = {primary.a: primary.b, primary.b: primary.a} if primary else {}
    against = sides.get(adapter.arm, BASE_ARM)
    others = [(i, other) for i, other in enumerate(findings.columns) if other != adapter]

    def distance(of: tuple[int, AdapterId]) -> tuple[bool, bool, bool, bool, bool, int]:
        other = of[1]
        return (
            other not in paired,
            adapter.is_base and other not in chosen,
            other.arm != against,
            other.seed != adapter.seed,
            other.variant != adapter.variant,
            abs(other.step - adapter.step),
        )

    return min(others, key=distance)[0] if others else None


def _column(words: Language, adapter: AdapterId) -> str:
    name = sentences.trained(words, adapter)
    return name if adapter.is_base else f"{name} · {_seed(words, adapter)} · {words('cell.step', step=adapter.step)}"


def _seed(words: Language, adapter: AdapterId) -> str:
    return f"{words('column.seed').lower()} {adapter.seed}"


class _Head(NamedTuple):
    """The head of a column: its group (label and seed), its label and small print, whether it is marked as chosen."""

    group: tuple[str, str]
    label: str = ""
    small: str = ""
    marked: bool = False


def _view(findings: Findings, columns: list[int], head: Callable[[int], _Head], width: str) -> dict[str, Any]:
    """The columns of a view and its header, which has a group wherever arm or group change."""
    groups: list[dict[str, Any]] = []
    labels = []
    before = None
    for i in columns:
        arm, (group, *label) = findings.columns[i].arm, head(i)
        if (arm, group) != before:
            colour = charts.arm_colour(findings, arm)
            groups.append({"label": group[0], "seed": group[1], "colour": colour, "columns": 0})
            before = (arm, group)
        groups[-1]["columns"] += 1
        labels.append(label)
    return {"columns": columns, "groups": groups, "labels": labels, "width": width}


def _chosen_view(findings: Findings, words: Language, columns: list[int]) -> dict[str, Any]:
    """One group an arm, its seeds side by side; where they are many, in numbers alone."""
    few = len(columns) <= FEW_COLUMNS

    def head(i: int) -> _Head:
        adapter = findings.columns[i]
        if adapter.is_base:
            return _Head((words("cell.base"), ""))
        if not few:
            return _Head((adapter.arm, ""), str(adapter.seed), str(adapter.step))
        step = words("cell.step", step=adapter.step)
        return _Head((adapter.arm, ""), _seed(words, adapter), f"{adapter.variant} {step}".strip())

    return _view(findings, columns, head, "wide" if few else "narrow")


def _all_view(findings: Findings, words: Language, columns: list[int], chosen: list[int]) -> dict[str, Any]:
    """One group a training, its steps side by side."""

    def head(i: int) -> _Head:
        adapter = findings.columns[i]
        if adapter.is_base:
            return _Head((words("cell.base"), ""))
        group = (sentences.trained(words, adapter), _seed(words, adapter))
        return _Head(group, str(adapter.step), marked=i in chosen)

    return _view(findings, columns, head, "")


def _shown(cell: Cell) -> str:
    return MIXED if 0 < cell.right < cell.samples else cell.verdict or "missing"


def _row(row: GridRow, views: list[list[int]]) -> dict[str, Any]:
    """A row of the grid as the page's script reads it.

    `cells` holds one word a checkpoint: letter, tests passed, tests, samples right, samples ("W,3,8,0,1"). For each
    view: its `kinds` and the letters of its `verdicts`, which serve the filters, and `solved`, the checkpoints that do.
    """
    cells = []
    for cell in row.cells:
        known = cell.passed is not None and cell.total
        passed, total = (cell.passed, cell.total) if known else ("", "")
        cells.append(f"{LETTERS[cell.verdict or 'missing']},{passed},{total},{cell.right},{cell.samples}")
    kinds, verdicts, solved = [], [], []
    for columns in views:
        seen = [row.cells[i] for i in columns]
        whole = [cell.samples > 0 and cell.right == cell.samples for cell in seen]
        kinds.append("always" if all(whole) else "never" if not any(cell.right for cell in seen) else "differ")
        verdicts.append("".join(sorted({LETTERS[_shown(cell)] for cell in seen})))
        solved.append(sum(whole))
    return {
        "id": row.problem,
        "title": row.title if row.title != row.problem else "",
        "tags": row.tags,
        "kinds": kinds,
        "verdicts": verdicts,
        "solved": solved,
        "cells": " ".join(cells),
    }
