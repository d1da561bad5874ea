"""report.md: the page's sentences, tables and figures as a paper, with room for the author's own text.

It is read on GitHub and by pandoc (docs/report.md has the commands). Figures and tables have numbers of ours, since
pandoc has none that work everywhere: a caption is a paragraph with an anchor, beside its picture or above its table,
and the text links to it. Sections follow the study that Kıyas grew from. Each ends in an empty block of the author's.
What is for the author only is a comment, which pandoc leaves out.
"""

from __future__ import annotations

import json
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
CHAPTERS = ("", "training", "results", "errors", "behaviour")
"""of tables, in the order of the text"""
ANSWER = ("results", "contrasts")
"""The tables that the answer is read from."""


def render(
    findings: Findings,
    words: Language,
    tables: dict[str, Table],
    charts: dict[str, Chart],
    methods: Iterable[str],
    suffix: str = "",
) -> str:
    """The whole text, its author's blocks empty. `suffix`: what this language's files have in their names."""
    paper = _Paper(findings, words, tables, charts, suffix)
    sections = {
        "question": paper.question(),
        "training": paper.training(),
        "results": paper.results(),
        "errors": paper.errors(),
        "conclusion": paper.conclusion(),
        "methods": list(map(plain, methods)),
        "files": [paper.files()],
        "notes": list(filter(None, [_listed(findings.notes)])),
    }
    made = words(
        "document.made_import" if findings.kind == Kind.IMPORT else "document.made",
        version=VERSION,
        date=words.date(findings.created),
    )
    parts = [paper.head(), f"<!-- {words('document.keep')} -->", made]
    for number, name in enumerate(filter(sections.__getitem__, sections), 1):
        parts += [f"# {number}. {words(f'document.{name}')}", *sections[name], author_blocks.block(name)]
    return "\n\n".join(parts) + "\n"


def gone(words: Language) -> str:
    """What comes before the author's blocks whose sections the report no longer has."""
    return f"\n# {words('document.gone')}\n\n<!-- {words('document.gone_text')} -->\n\n"


class _Paper:
    """The parts of one text. A section that has nothing to say is empty, and left out."""

    def __init__(
        self,
        findings: Findings,
        words: Language,
        tables: dict[str, Table],
        charts: dict[str, Chart],
        suffix: str,
    ) -> None:
        self.findings, self.words, self.suffix = findings, words, suffix
        self.tables = [
            table for chapter in CHAPTERS for table in tables.values()
            if table.chapter == chapter and table.columns and table.shown
        ]  # fmt: skip
        self.all_tables, self.charts = tables, charts
        placed = [table.place.figure for table in self.tables if table.place.figure in charts]
        self.curves = [chart.name for chart in charts.values() if chart.arm is not None]
        self.first = [name for name in charts if name not in (*placed, *self.curves)]
        drawn = [name for name in (*self.first, *self.curves, *placed) if charts[name].drawing]
        self.figure_number = {name: n for n, name in enumerate(dict.fromkeys(drawn), 1)}
        self.table_number = {table.name: n for n, table in enumerate(self.tables, 1)}

    def head(self) -> str:
        """The title block. A JSON string is a YAML string, which pandoc reads as Markdown."""
        said = {
            "title": plain(self.words("page.title", name=self.findings.name)),
            "date": self.words.date(self.findings.created),
            "lang": self.words.language,
            "bibliography": "references.bib",
            "reference-section-title": self.words("document.references"),
        }
        lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in said.items()]
        return "\n".join(["---", *lines, "link-citations: true", "---"])

    def question(self) -> list[str]:
        findings, words = self.findings, self.words
        found = sentences.conclusion(findings, words)
        parts = []
        if len(findings.wanted) == 2 and findings.problems:
            a, b = map(plain, findings.wanted)
            if "base" in findings.wanted:
                arm = b if findings.wanted[0] == "base" else a
                parts.append(words("document.asked_base", arm=arm, n=findings.problems))
            else:
                parts.append(words("document.asked", a=a, b=b, n=findings.problems))
        figures = [*self.first, *(table.place.figure for table in self.tables if table.name in ANSWER)]
        parts.append(_sentences(_answer(found), self.see(figures, ANSWER)))
        parts += [self.figure(name) for name in self.first]
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
        return [*parts, f"## {words('document.limits')}", "\n".join(first)] if first else parts

    def training(self) -> list[str]:
        findings, words = self.findings, self.words
        parts = [words("heading.loss_lead")] if findings.curves else []
        for name in self.curves:
            arm = self.charts[name].arm
            curves = [curve for curve in findings.curves if curve.training.arm == arm]
            parts.append(f"## {plain(arm or '')}")
            if number := self.figure_number.get(name):
                parts.append(words("document.losses", figure=self.link("figure", number), arm=plain(arm or "")))
            parts.append(self.figure(name))
            for curve in curves:
                seed = f"**{words('column.seed')} {curve.training.seed}.** " if len(curves) > 1 else ""
                parts.append(seed + plain(sentences.reading(curve, words)))
            parts += filter(None, [plain(sentences.overfitting(curves, words))])
            parts.append(author_blocks.block(name))
        return parts + self.chapter("training")

    def results(self) -> list[str]:
        return self.chapter("results") or [self.words("page.no_verdicts")]

    def errors(self) -> list[str]:
        findings, words = self.findings, self.words
        if not (findings.grid and findings.columns):
            return []
        return [
            *self.chapter("errors"),
            f"## {words('heading.behaviour')}",
            plain(sentences.behaviour_lead(findings, words)),
            *self.chapter("behaviour"),
            *map(plain, sentences.not_known(findings, words)),
        ]

    def conclusion(self) -> list[str]:
        found = sentences.conclusion(self.findings, self.words)
        return [_answer(found), *filter(None, [_listed(found.more)])]

    def files(self) -> str:
        """Every table's files."""
        lines = []
        for name, table in self.all_tables.items():
            number = self.table_number.get(name)
            names = [f"{name}.csv", *([f"{name}{self.suffix}.tex"] if number else [])]
            links = ", ".join(f"[{file}](tables/{file})" for file in names)
            lines.append(f"- {self.link('table', number) if number else plain(table.title)}: {links}")
        return "\n".join([self.words("document.files_lead"), "", *lines])

    def chapter(self, name: str) -> list[str]:
        """Heading, lead, figure and rows of the chapter's tables; a chapter's main table goes without a heading."""
        parts = []
        for table in self.tables:
            if table.chapter == name:
                parts += [f"## {plain(table.title)}"] if table.name != name else []
                figures = [table.place.figure] if table.place.figure in self.charts else []
                key = "see" if table.lead else "numbers"
                parts.append(_sentences(plain(table.lead), self.see(figures, [table.name], key)))
                parts += [self.figure(figure) for figure in figures]
                parts += [self.caption("table", self.table_number[table.name], table.title), table.markdown()]
        return parts

    def see(self, figures: Iterable[str], tables: Iterable[str], key: str = "see") -> str:
        """Refers to figures and tables that are here; "" for none."""
        there = [self.link("figure", n) for name in figures if (n := self.figure_number.get(name))]
        there += [self.link("table", n) for name in tables if (n := self.table_number.get(name))]
        if not there:
            return ""
        *first, last = there
        listed = self.words("document.and", a=", ".join(first), b=last) if first else last
        return self.words(f"document.{key}", what=listed)

    def link(self, kind: str, number: int) -> str:
        return f"[{self.words(f'document.{kind}', n=number)}](#{kind}-{number})"

    def caption(self, kind: str, number: int, title: str) -> str:
        # pandoc makes a bookmark of a span, and GitHub an anchor.
        label = f'<span id="{kind}-{number}">**{self.words(f"document.{kind}", n=number)}.**</span>'
        return f"{label} {plain(title)}"

    def figure(self, name: str) -> str:
        chart = self.charts[name]
        if chart.drawing is None:
            return f"*{plain(self.words('page.no_figure', name=chart.title))}*"
        # The line break keeps the caption in the picture's paragraph: alone there, LaTeX would number it once more.
        picture = f"![{plain(chart.label)}](figures/{name}{self.suffix}.png)\\"
        return f"{picture}\n{self.caption('figure', self.figure_number[name], chart.title)}"


def _answer(found: sentences.Conclusion) -> str:
    return f"**{plain(found.badge)}.** {plain(found.sentence)}"


def _sentences(*said: str) -> str:
    return " ".join(filter(None, said))


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {plain(line)}" for line in lines)
