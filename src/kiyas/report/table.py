"""One table: what is shown, and the same rows as plain values for the CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kiyas.report.words import Words
from kiyas.stats.inference import Interval


@dataclass(frozen=True)
class Table:
    """`shown`: one text per column key; `raw`: the same rows as plain values for the CSV file.

    `strong` numbers the rows to be printed bold, `faint` those that say little. `numeric` columns are aligned to the
    right.
    """

    name: str
    title: str
    columns: tuple[tuple[str, str], ...]
    shown: tuple[Mapping[str, str], ...]
    raw: tuple[Mapping[str, Any], ...]
    strong: frozenset[int] = frozenset()
    numeric: frozenset[str] = frozenset()
    faint: frozenset[int] = frozenset()

    def csv(self) -> str:
        """RFC 4180; texts that a spreadsheet would take for a formula get an apostrophe in front."""
        keys = list(dict.fromkeys(key for row in self.raw for key in row)) or [key for key, _ in self.columns]
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(keys)
        writer.writerows([[_plain(row.get(key)) for key in keys] for row in self.raw])
        return out.getvalue()

    def markdown(self) -> str:
        head = "| " + " | ".join(_cell(title) for _, title in self.columns) + " |"
        rule = "|" + "|".join("---:" if key in self.numeric else "---" for key, _ in self.columns) + "|"
        lines = []
        for i, row in enumerate(self.shown):
            cells = [_cell(row.get(key, "")) for key, _ in self.columns]
            lines.append("| " + " | ".join(f"**{c}**" if i in self.strong and c else c for c in cells) + " |")
        return "\n".join([head, rule, *lines])


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _plain(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return round(value, 6) if isinstance(value, float) else value


def bounds(name: str, interval: Interval | None) -> dict[str, Any]:
    return {
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
    }


def columns(words: Words, *keys: str) -> tuple[tuple[str, str], ...]:
    return tuple((key, words(f"column.{key}")) for key in keys)
