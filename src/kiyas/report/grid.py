"""The grid of problems × checkpoints: what the page's template and script show of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kiyas.analyse.findings import Findings
from kiyas.report import charts, sentences
from kiyas.report.language import Language, phrases
from kiyas.types import BASE_ARM, AdapterId

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
}


@dataclass(frozen=True)
class Grid:
    """`rows` and `groups` as the template wants them, `used`: the verdicts that occur, `data`: for the script."""

    rows: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    used: list[str]
    data: dict[str, Any]

    @classmethod
    def of(cls, findings: Findings, words: Language) -> Grid:
        rows, groups = _rows(findings), _groups(findings, words)
        met = {cell.verdict or "missing" for row in findings.grid for cell in row.cells}
        data = {
            "rows": rows,
            "letters": {letter: verdict for verdict, letter in LETTERS.items()},
            "columns": [_column(words, adapter) for adapter in findings.columns],
            "starts": [group["columns"][0]["i"] for group in groups],
            "partners": [partner(findings, adapter) for adapter in findings.columns],
            "words": {
                key: phrase
                for key, phrase in phrases(words.language).items()
                if key.split(".")[0] in ("grid", "verdict")
            },
        }
        return cls(rows, groups, [verdict for verdict in LETTERS if verdict in met], data)


def partner(findings: Findings, adapter: AdapterId) -> int | None:
    """The column that `adapter` is compared with unless another is chosen; None if there is no other.

    It is the other arm of the primary contrast, the base for arms outside of it: the checkpoint it was paired with,
    else that of the same seed and learning rate whose step is nearest.
    """
    primary = findings.primary
    pairs = [(pair.a, pair.b) for pair in primary.pairs] if primary else []
    paired = {side for pair in pairs if adapter in pair for side in pair}
    sides = {primary.a: primary.b, primary.b: primary.a} if primary else {}
    against = sides.get(adapter.arm, BASE_ARM)
    others = [(i, other) for i, other in enumerate(findings.columns) if other != adapter]

    def distance(of: tuple[int, AdapterId]) -> tuple[bool, bool, bool, bool, int]:
        other = of[1]
        return (
            other not in paired,
            other.arm != against,
            other.seed != adapter.seed,
            other.variant != adapter.variant,
            abs(other.step - adapter.step),
        )

    return min(others, key=distance)[0] if others else None


def _column(words: Language, adapter: AdapterId) -> str:
    name = sentences.trained(words, adapter)
    if adapter.is_base:
        return name
    return f"{name} · {words('column.seed').lower()} {adapter.seed} · {words('cell.step', step=adapter.step)}"


def _groups(findings: Findings, words: Language) -> list[dict[str, Any]]:
    """Header of the grid: one group a training."""
    groups: list[dict[str, Any]] = []
    several = {a.arm for a in findings.columns if a.seed != findings.columns[0].seed} if findings.columns else set()
    for i, adapter in enumerate(findings.columns):
        if not groups or groups[-1]["training"] != adapter.training:
            label = sentences.trained(words, adapter)
            seed = f"{words('column.seed').lower()} {adapter.seed}" if several and not adapter.is_base else ""
            colour = charts.arm_colour(findings, adapter.arm)
            groups.append({"training": adapter.training, "label": label, "seed": seed, "colour": colour, "columns": []})
        groups[-1]["columns"].append({"i": i, "step": "" if adapter.is_base else adapter.step})
    return groups


def _rows(findings: Findings) -> list[dict[str, Any]]:
    """Rows of the grid as the page's script reads them. `kind` serves the filter.

    `cells` holds one word a checkpoint: letter, tests passed, tests, samples right, samples ("W,3,8,0,1").
    """
    rows = []
    for row in findings.grid:
        solved = [cell.samples > 0 and cell.right == cell.samples for cell in row.cells]
        kind = "always" if all(solved) else "never" if not any(cell.right for cell in row.cells) else "differ"
        cells = []
        for cell in row.cells:
            known = cell.passed is not None and cell.total
            passed, total = (cell.passed, cell.total) if known else ("", "")
            cells.append(f"{LETTERS[cell.verdict or 'missing']},{passed},{total},{cell.right},{cell.samples}")
        title = row.title if row.title != row.problem else ""
        rows.append({"id": row.problem, "title": title, "kind": kind, "cells": " ".join(cells), "solved": sum(solved)})
    return rows
