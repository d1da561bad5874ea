"""Findings → page, figures, tables, text. See docs/report.md.

`write` makes everything below report/: index.html (self-contained, offline), report.md, methods.txt, references.bib,
figures/*.svg, *.png and *.pdf, tables/*.csv. `text` is the table and the conclusion for the terminal.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from kiyas.analyse.findings import Findings
from kiyas.judge.terminal import one_line
from kiyas.report import author_blocks, charts, drawing, markdown, methods, page, sentences, tables, terminal
from kiyas.report.language import Language, languages
from kiyas.runfolder.files import atomic_bytes, atomic_text, disk_errors
from kiyas.runfolder.paths import RunDir
from kiyas.work.progress import tell

__all__ = ["conclusion", "languages", "text", "write"]


def write(run: Path, findings: Findings, *, language: str = "en") -> Path:
    """Writes the report of a run and returns the path of its page; index.html is written last."""
    words = Language(language)
    words("page.title", name="")
    folder = RunDir(run).report
    made_tables = tables.tables(findings, words)
    with drawing.engine() as engine:
        made_charts = drawing.drawn(charts.charts(findings, words), engine)
        library = drawing.javascript(engine) if made_charts else ""
    for stale in (folder / "figures", folder / "tables"):
        shutil.rmtree(stale, ignore_errors=True)
    for chart in made_charts.values():
        chart.write(folder / "figures")
    for name, table in made_tables.items():
        atomic_text(folder / "tables" / f"{name}.csv", table.csv())
    told = methods.paragraphs(run, findings, words)
    atomic_text(folder / "methods.txt", "\n\n".join(map(one_line, told)) + "\n")
    atomic_text(folder / "references.bib", methods.bibliography())
    made = markdown.render(findings, words, made_tables, made_charts, told)
    _renew(folder / "report.md", made, markdown.gone(words))
    html = folder / "index.html"
    atomic_text(html, page.page(run, findings, words, made_tables, made_charts, library))
    return html


def _renew(path: Path, made: str, gone: str) -> None:
    """Writes report.md anew around its author's text; what it could not keep stays beside it as report.md.bak."""
    with disk_errors(path):
        old = path.read_bytes() if path.exists() else b""
    new, sound = author_blocks.merge(made, old, gone)
    if not sound:
        number = 1
        while (backup := path.with_name(f"report.md.bak{number if number > 1 else ''}")).exists():
            number += 1
        atomic_bytes(backup, old)
        tell(f"{path} was changed outside its author's blocks, or a marker was; the old file is kept as {backup.name}")
    atomic_bytes(path, new)


def text(findings: Findings, *, language: str = "en", width: int = 100, color: bool = False) -> str:
    """The table of results, the differences and the conclusion as plain text."""
    return terminal.render(findings, Language(language), width=width, color=color)


def conclusion(findings: Findings) -> str:
    """The conclusion in one English sentence."""
    return sentences.conclusion(findings, Language()).sentence
