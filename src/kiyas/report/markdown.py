"""report.md: the page's sentences, tables and figures in the order of a paper, with room for the author's own text.

Sections follow the study that Kıyas grew from. Each ends in an empty block of `kept`, which is the author's.
"""

from __future__ import annotations

from collections.abc import Iterable

from kiyas.analyse.findings import Findings, Level
from kiyas.judge.version import VERSION
from kiyas.report import author_blocks, sentences
from kiyas.report.charts import Chart
from kiyas.report.language import Language
from kiyas.report.quoting import markdown as plain
from kiyas.report.tables import Table
from kiyas.runfolder.record import Kind

OWED = ("owed", "seeds_missing", "no_verdicts", "nothing_missing")


def render(
    findings: Findings, words: Language, tables: dict[str, Table], charts: dict[str, Chart], methods: Iterable[str]
) -> str:
    """The whole text, its author's blocks empty."""
    sections = {
        "question": _question(findings, words),
        "training": _training(findings, words, tables, charts),
        "results": _results(words, tables, charts),
        "errors": _errors(findings, words, tables, charts),
        "conclusion": _conclusion(findings, words),
        "methods": [*map(plain, methods), words("document.references", file="[references.bib](references.bib)")],
        "notes": [_listed(findings.notes) or words("page.notes_none")],
    }
    made = words(
        "document.made_import" if findings.kind == Kind.IMPORT else "document.made",
        version=VERSION,
        date=words.date(findings.created),
    )
    parts = [f"# {plain(findings.name)}", made]
    for name, section in sections.items():
        parts += [f"## {words(f'document.{name}')}", *section, author_blocks.block(name)]
    return "\n\n".join(parts) + "\n"


def gone(words: Language) -> str:
    """What comes before the author's blocks whose sections the report no longer has."""
    return f"\n## {words('document.gone')}\n\n{words('document.gone_text')}\n\n"


def _question(findings: Findings, words: Language) -> list[str]:
    found = sentences.conclusion(findings, words)
    parts = []
    if len(findings.wanted) == 2 and findings.problems:
        a, b = map(plain, findings.wanted)
        if "base" in findings.wanted:
            arm = b if findings.wanted[0] == "base" else a
            parts.append(words("document.asked_base", arm=arm, n=findings.problems))
        else:
            parts.append(words("document.asked", a=a, b=b, n=findings.problems))
    first = [
        f"- **{words(f'level.{remark.level}')}.** {plain(said)}"
        for remark, said in sentences.remarks(findings, words, Level.WARNING, Level.NOTE)
        if remark.code not in OWED
    ]
    first += [
        f"- **{words('document.missing')}.** {plain(said)}"
        for remark, said in sentences.remarks(findings, words, *Level)
        if remark.code in OWED
    ]
    return [*parts, _answer(found), f"### {words('heading.read_first')}", "\n".join(first)]


def _answer(found: sentences.Conclusion) -> str:
    return f"**{plain(found.badge)}.** {plain(found.sentence)}"


def _training(findings: Findings, words: Language, tables: dict[str, Table], charts: dict[str, Chart]) -> list[str]:
    parts = [words("heading.loss_lead") if findings.curves else words("page.no_curves")]
    for name, chart in charts.items():
        if chart.arm is None:
            continue
        curves = [curve for curve in findings.curves if curve.training.arm == chart.arm]
        parts += [f"### {plain(chart.arm)}", _figure(chart, words)]
        for curve in curves:
            seed = f"**{words('column.seed')} {curve.training.seed}.** " if len(curves) > 1 else ""
            parts.append(seed + plain(sentences.reading(curve, words)))
        known = [curve.reading for curve in curves if curve.reading and curve.reading.overfits is not None]
        if len(known) > 1:
            turned = [str(reading.lowest_step) for reading in known if reading.overfits]
            values = {"n": len(turned), "of": len(known), "steps": ", ".join(turned)}
            parts.append(words(f"document.{'turned' if turned else 'not_turned'}", arm=plain(chart.arm), **values))
        parts.append(author_blocks.block(name))
    if findings.curves:
        parts.append(_csv("losses", words("table.losses"), words))
    return parts + _tables("training", words, tables, charts)


def _results(words: Language, tables: dict[str, Table], charts: dict[str, Chart]) -> list[str]:
    return _tables("results", words, tables, charts) if "results" in tables else [words("page.no_verdicts")]


def _errors(findings: Findings, words: Language, tables: dict[str, Table], charts: dict[str, Chart]) -> list[str]:
    if not findings.grid:
        return [words("page.no_verdicts")]
    return [
        *_tables("errors", words, tables, charts),
        _csv("grid", words("heading.grid"), words),
        f"### {words('heading.behaviour')}",
        plain(sentences.behaviour_lead(findings, words)),
        *_tables("behaviour", words, tables, charts),
        *map(plain, sentences.not_known(findings, words)),
    ]


def _conclusion(findings: Findings, words: Language) -> list[str]:
    found = sentences.conclusion(findings, words)
    return [_answer(found), *filter(None, [_listed(found.more)])]


def _tables(chapter: str, words: Language, tables: dict[str, Table], charts: dict[str, Chart]) -> list[str]:
    """Heading, lead, figure and rows of the chapter's tables; a chapter's main table goes without a heading."""
    parts = []
    for table in tables.values():
        if table.columns and table.shown and table.chapter == chapter:
            parts += [f"### {plain(table.title)}"] if table.name != chapter else []
            parts += [plain(table.lead)] if table.lead else []
            parts += [_figure(charts[table.place.figure], words)] if table.place.figure in charts else []
            parts += [table.markdown(), _csv(table.name, table.title, words)]
    return parts


def _figure(chart: Chart, words: Language) -> str:
    if chart.drawing is None:
        return f"*{plain(words('page.no_figure', name=chart.title))}*"
    return f"![{plain(chart.title)}](figures/{chart.name}.png)"


def _csv(name: str, title: str, words: Language) -> str:
    return f"[{plain(title)} ({words('page.table_file')})](tables/{name}.csv)"


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {plain(line)}" for line in lines)
