"""The report for the terminal: the table of results and the conclusion, plain text."""

from __future__ import annotations

from rich import box
from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from kiyas.analyse.findings import Findings, Level
from kiyas.report import sentences, tables
from kiyas.report.language import DASH, Language
from kiyas.work.console import plain_console, printed, safe

WORDY = ("arm", "comparison", "decision")
"""Columns that are wrapped where the terminal is too narrow; numbers are never cut."""
WIDE, LONGEST_WORD = 80, 24
"""columns"""
STYLE = {"more": "bold green", "less": "bold green", "equivalent": "bold blue", "owed": "bold red"}


def render(findings: Findings, words: Language, *, width: int, color: bool) -> str:
    """Rows of the result table, then the differences, the conclusion and its warnings."""
    console = plain_console(width, color)

    def say(text: str) -> None:
        console.print(Padding(Text(safe(text)), (0, 0, 0, 2)))

    made = tables.tables(findings, words)
    console.print(Text(safe(findings.name), style="bold"))
    for table in made.values():
        if table.place.terminal and table.shown:
            console.print()
            console.print(Text(safe(table.title), style="dim"))
            made_table, left_out = _table(table, width)
            console.print(made_table)
            if left_out:
                say(words("text.left_out", columns=", ".join(left_out)))
    found = sentences.conclusion(findings, words)
    console.print()
    console.print(Text(safe(f"{words('text.conclusion')}: {found.badge}"), style=STYLE.get(found.decision, "bold")))
    for line in (found.sentence, *found.more):
        say(line)
    warnings = sentences.remarks(findings, words, Level.WARNING, Level.NOTE)
    if warnings or findings.notes:
        console.print()
        console.print(Text(words("heading.read_first"), style="bold yellow"))
        for remark, text in warnings:
            mark = "!" if remark.level is Level.WARNING else "·"
            say(f"{mark} {text}")
        for note in findings.notes[:8]:
            say(f"· {note}")
        if len(findings.notes) > 8:
            say(f"· … +{len(findings.notes) - 8}")
    return printed(console)


def _table(table: tables.Table, width: int) -> tuple[RichTable, list[str]]:
    """The table, and the titles of columns for which the terminal is too narrow."""
    gap = 2 if width >= WIDE else 1
    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0))
    said = {key for row in table.shown for key, text in row.items() if text not in ("", DASH)}
    keys = [(key, title) for key, title in table.columns if key in said - table.wide]

    def least(key: str, title: str) -> int:
        texts = [safe(text) for text in (title, *(row[key] for row in table.shown))]
        words = [word for text in texts for word in (text.split() if key in WORDY else [text])]
        return min(max(map(cell_len, words), default=0), LONGEST_WORD if key in WORDY else width)

    left_out: list[str] = []
    while len(keys) > 2 and 2 + sum(least(*each) + gap for each in keys) > width:
        # The last column of differences is what they come to.
        left_out.insert(0, keys.pop(-2 if keys[-1][0] == "decision" else -1)[1])
    for key, title in keys:
        made.add_column(
            safe(title),
            justify="right" if key in table.numeric else "left",
            no_wrap=key not in WORDY,
            overflow="fold",
            min_width=least(key, title),
        )
    for i, row in enumerate(table.shown):
        cells = [Text(safe(row[key])) for key, _ in keys]
        made.add_row(*cells, style="bold" if i in table.strong else None)
    return made, left_out
