"""Findings → page, figures, tables, text. See docs/report.md.

`write` makes everything below report/: index.html (self-contained, offline), report.md, figures/*.svg and
*.png, tables/*.csv. `text` is the table and the conclusion for the terminal.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from kiyas.analyse.findings import Findings
from kiyas.report import charts, markdown, page, sentences, tables, terminal
from kiyas.report.words import Words, languages
from kiyas.rundir import RunDir, atomic_bytes, atomic_text

__all__ = ["conclusion", "languages", "text", "write"]


def write(run: Path, findings: Findings, *, language: str = "en") -> Path:
    """Writes the report of a run and returns the path of its page; index.html is written last."""
    words = Words(language)
    words("page.title", name="")
    folder = RunDir(run).report
    made_tables, made_charts = tables.tables(findings, words), charts.charts(findings, words)
    for stale in (folder / "figures", folder / "tables"):
        shutil.rmtree(stale, ignore_errors=True)
    stills = {name: chart.svg() for name, chart in made_charts.items()}
    for name, chart in made_charts.items():
        atomic_text(folder / "figures" / f"{name}.svg", stills[name])
        atomic_bytes(folder / "figures" / f"{name}.png", chart.png())
    for name, table in made_tables.items():
        atomic_text(folder / "tables" / f"{name}.csv", table.csv())
    atomic_text(folder / "report.md", markdown.render(findings, words, made_tables, made_charts))
    html = folder / "index.html"
    atomic_text(html, page.page(run, findings, words, made_tables, made_charts, stills))
    return html


def text(findings: Findings, *, language: str = "en", width: int = 100, color: bool = False) -> str:
    """The table of results, the differences and the conclusion as plain text."""
    return terminal.render(findings, Words(language), width=width, color=color)


def conclusion(findings: Findings, *, language: str = "en") -> str:
    """The conclusion in one sentence."""
    return sentences.conclusion(findings, Words(language)).sentence
