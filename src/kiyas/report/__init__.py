"""Findings → page, figures, tables, text. See docs/report.md.

`write` makes everything below report/: index.html (self-contained, offline), report.md, methods.txt, references.bib,
figures/*.svg, *.png and *.pdf, tables/*.csv and *.tex. Those names are of the study's own language; in another one
every file whose text differs has the language in its name (index.tr.html). `text` is the table and the conclusion for
the terminal.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from kiyas.analyse.findings import Findings
from kiyas.judge.terminal import one_line
from kiyas.report import author_blocks, charts, citations, drawing, markdown, methods, page, sentences, tables, terminal
from kiyas.report.language import Language, languages, others, suffix
from kiyas.runfolder.files import atomic_bytes, atomic_text, disk_errors
from kiyas.runfolder.litter import remove
from kiyas.runfolder.paths import RunDir
from kiyas.runfolder.record import read_record
from kiyas.work.progress import tell

__all__ = ["badge", "conclusion", "languages", "text", "write"]


def write(run: Path, findings: Findings, *, language: str | None = None) -> Path:
    """Writes the report of a run and returns the path of its page in `language`; None: the study's own.

    The report is written in the study's own language, in `language`, and in every other one that it was written in
    before, so that no two pages have different numbers. index.html is written last.
    """
    folder, own = RunDir(run).report, read_record(RunDir(run)).language
    asked = language or own
    Language(asked)("page.title", name="")
    wanted = [each for each in languages() if each not in (asked, own) and _is_there(folder, each)]
    wanted += [asked, own] if asked != own else [own]
    for stale in (folder / "figures", folder / "tables"):
        shutil.rmtree(stale, ignore_errors=True)
    for name in ("index.{}.html", "methods.{}.txt"):
        remove(folder / name.format(own))  # of a study that had another language
    atomic_text(folder / "references.bib", citations.bibliography())
    with drawing.engine() as engine:
        pages = {each: _write(run, findings, each, own, wanted, engine) for each in wanted}
    return pages[asked]


def _is_there(folder: Path, language: str) -> bool:
    return any((folder / name).exists() for name in (f"index.{language}.html", f"report.{language}.md"))


def _write(run: Path, findings: Findings, language: str, own: str, wanted: list[str], engine: drawing.Engine) -> Path:
    """All files of one language; what is the same in all languages is written with the study's own."""
    words, folder, end = Language(language), RunDir(run).report, suffix(language, own)
    made_tables = tables.tables(findings, words)
    made_charts = drawing.drawn(charts.charts(findings, words), engine)
    library = drawing.javascript(engine) if made_charts else ""
    for chart in made_charts.values():
        chart.write(folder / "figures", end)
    for name, table in made_tables.items():
        if language == own:
            atomic_text(folder / "tables" / f"{name}.csv", table.csv())
        if table.columns and table.shown:
            atomic_text(folder / "tables" / f"{name}{end}.tex", table.latex())
    said = methods.paragraphs(run, findings, words)
    atomic_text(folder / f"methods{end}.txt", "\n\n".join(map(one_line, said)) + "\n")
    paper = Language(language, paper=True)
    cited = methods.paragraphs(run, findings, paper)
    made = markdown.render(findings, paper, made_tables, made_charts, cited, end)
    _renew(folder / f"report{end}.md", made, markdown.gone(words))
    html, links = folder / f"index{end}.html", others(language, own, wanted)
    atomic_text(html, page.page(run, findings, words, made_tables, made_charts, said, library, end, links))
    return html


def _renew(path: Path, made: str, gone: str) -> None:
    """Writes report.md anew around its author's text; what it could not keep stays beside it as report.md.bak."""
    with disk_errors(path):
        old = path.read_bytes() if path.exists() else b""
    new, sound = author_blocks.merge(made, old, gone)
    if not sound:
        number = 1
        while (backup := path.with_name(f"{path.name}.bak{number if number > 1 else ''}")).exists():
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


def badge(findings: Findings) -> str:
    """The conclusion in a few English words."""
    return sentences.conclusion(findings, Language()).badge


def line(findings: Findings) -> str:
    """Name and conclusion in one English line, for a terminal."""
    return one_line(f"{findings.name}: {badge(findings)}. {conclusion(findings)}")
