"""One table machinery: a column is declared once; CSV and LaTeX file, page, report.md and terminal derive from it.

A table is rows, usually nouns of the findings, and columns. See docs/add-a-statistic.md.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from kiyas.judge.terminal import one_line
from kiyas.report.language import Language
from kiyas.report.quoting import latex, markdown
from kiyas.runfolder.spreadsheet import text_in_cell
from kiyas.stats.inference import Interval

Row = TypeVar("Row", contravariant=True)


@dataclass(frozen=True)
class Column(Generic[Row]):
    """What a row holds for the CSV file (`value`) and what readers see of it (`show`); either may be None.

    The file calls it `file`, or `key`; a dict becomes several columns of the file, by its keys. Readers see
    `title`, or the phrase `column.KEY`. Its definition on the page is the phrase `about.TABLE_KEY` or `about.KEY`, of
    `about` where that is given. Not `terminal`: the terminal is too narrow for it.
    """

    key: str
    value: Callable[[Row], Any] | None = None
    show: Callable[[Row, Language], str] | None = None
    numeric: bool = False
    title: str | None = None
    file: str = ""
    terminal: bool = True
    about: str = ""

    def cells(self, row: Row) -> Mapping[str, Any]:
        """The plain values of one row, by their names in the CSV file."""
        value = self.value(row) if self.value else {}
        return value if isinstance(value, dict) else {self.file or self.key: value}


def as_it_is(words: Language, value: Any) -> str:
    return str(value)


def label(
    key: str,
    value: Callable[[Row], Any],
    say: Callable[[Language, Any], str] = as_it_is,
    *,
    none: str | None = None,
    numeric: bool = False,
    title: str | None = None,
    file: str = "",
    terminal: bool = True,
    about: str = "",
) -> Column[Row]:
    """One value in the file, and what `say` makes of it for readers; `none` is shown for None, where it is given."""

    def show(row: Row, words: Language) -> str:
        found = value(row)
        return say(words, found) if found is not None or none is None else none

    return Column(key, value, show, numeric, title, file, terminal, about)


def number(
    key: str, value: Callable[[Row], Any], say: Callable[[Language, Any], str] = as_it_is, **options: Any
) -> Column[Row]:
    """A label that is aligned to the right; `say` is mostly a method of `Language`."""
    return label(key, value, say, numeric=True, **options)


def mark(key: str, value: Callable[[Row], bool], *, file: str = "") -> Column[Row]:
    """Yes or no: a dot or nothing; in the file 1 or 0."""
    return Column(key, lambda row: int(value(row)), lambda row, _: "●" if value(row) else "", file=file)


def part_of(key: str, of: Callable[[Row], dict[str, float]]) -> Column[Row]:
    """Two columns of the file, for readers one: 3/41."""

    def show(row: Row, words: Language) -> str:
        part, whole = of(row).values()
        return words("cell.of", solved=words.count(part), n=whole)

    return Column(key, of, show, numeric=True)


def interval(
    key: str,
    of: Callable[[Row], Interval | None],
    say: Callable[[Language, Interval | None], str],
    *,
    file: str = "",
    **options: Any,
) -> Column[Row]:
    """A number that is an interval; in the file FILE_low and FILE_high."""
    return dataclasses.replace(number(key, of, say, **options), value=lambda row: bounds(file or key, of(row)))


Say = tuple[Callable[[Language, float | None], str], Callable[[Language, Interval | None], str]]
SHARE: Say = (Language.percent, Language.share_interval)
POINTS: Say = (Language.points, Language.points_interval)


def estimate(
    key: str,
    value: Callable[[Row], float | None],
    of: Callable[[Row], Interval | None],
    say: Say,
    *,
    file: str = "",
    limits: str,
) -> Column[Row]:
    """A number and its interval in one column; in the file FILE, LIMITS_low and LIMITS_high."""

    def show(row: Row, words: Language) -> str:
        said, found = say[0](words, value(row)), of(row)
        return words.estimate(said, say[1](words, found)) if found else said

    return Column(key, lambda row: {file or key: value(row), **bounds(limits, of(row))}, show, numeric=True)


def bounds(file: str, found: Interval | None) -> dict[str, Any]:
    return {f"{file}_low": found.low if found else None, f"{file}_high": found.high if found else None}


Section = Literal["", "data", "results", "loss", "pass", "problems", "stability", "behaviour", "method"]
CHAPTERS: Mapping[Section, str] = {
    "": "",
    "data": "training",
    "results": "results",
    "loss": "training",
    "pass": "results",
    "problems": "errors",
    "stability": "errors",
    "behaviour": "behaviour",
    "method": "results",
}
"""Where report.md has the tables of the page's sections."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where readers find a table: in a `section` of the page, a `chapter` of report.md (see `CHAPTERS`), the terminal.

    On the page it has the chart `figure` above it, and a `heading` (None: its title) or the summary `fold` under which
    it is folded. Without a section it has a CSV file only, to which page and report.md may link by name.
    """

    section: Section = ""
    chapter: str = ""
    terminal: bool = False
    heading: str | None = None
    figure: str = ""
    fold: str = ""


@dataclass(frozen=True)
class Table:
    """`columns`: key and title of what readers see; `shown`: their texts by key; `raw`: plain values for the CSV file.

    `strong` numbers the rows to be printed bold, `faint` those that say little. `numeric` columns are aligned to the
    right, `wide` ones are not in the terminal. `lead` says what the table shows. `about`: by column, the key of its
    definition in `[about]`.
    """

    name: str
    title: str
    columns: tuple[tuple[str, str], ...]
    shown: tuple[Mapping[str, str], ...]
    raw: tuple[Mapping[str, Any], ...]
    strong: frozenset[int] = frozenset()
    faint: frozenset[int] = frozenset()
    numeric: frozenset[str] = frozenset()
    wide: frozenset[str] = frozenset()
    lead: str = ""
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)
    place: Place = Place()

    @property
    def chapter(self) -> str:
        """Where report.md has it."""
        return self.place.chapter or CHAPTERS[self.place.section]

    def csv(self) -> str:
        """RFC 4180; texts that a spreadsheet would take for a formula get an apostrophe in front."""
        keys = list(dict.fromkeys(key for row in self.raw for key in row))
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(map(text_in_cell, keys))
        writer.writerows([[_plain(row.get(key)) for key in keys] for row in self.raw])
        return out.getvalue()

    def markdown(self) -> str:
        head = "| " + " | ".join(markdown(title) for _, title in self.columns) + " |"
        rule = "|" + "|".join("---:" if key in self.numeric else "---" for key, _ in self.columns) + "|"
        lines = []
        for i, row in enumerate(self.shown):
            cells = [markdown(row[key]) for key, _ in self.columns]
            lines.append("| " + " | ".join(f"**{c}**" if i in self.strong and c else c for c in cells) + " |")
        return "\n".join([head, rule, *lines])

    def latex(self) -> str:
        """A `tabular` for `\\input`; the caption is the author's."""
        head = " & ".join(latex(title) for _, title in self.columns)
        lines = []
        for i, row in enumerate(self.shown):
            cells = [latex(row[key]) for key, _ in self.columns]
            lines.append(" & ".join(f"\\textbf{{{c}}}" if i in self.strong and c else c for c in cells) + r" \\")
        return "\n".join(
            [
                f"% {one_line(self.title)}",
                r"% \usepackage{booktabs,amssymb}",
                rf"\begin{{tabular}}{{{''.join('r' if key in self.numeric else 'l' for key, _ in self.columns)}}}",
                r"\toprule",
                rf"{head} \\",
                r"\midrule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                "",
            ]
        )


def table(
    name: str,
    words: Language,
    rows: Sequence[Row],
    columns: Sequence[Column[Row]],
    *,
    title: str = "",
    lead: str = "",
    shown: Sequence[str] | None = None,
    printed: Sequence[Row] | None = None,
    strong: Callable[[Row], bool] = lambda row: False,
    faint: Callable[[Row], bool] = lambda row: False,
    place: Place = Place(),
) -> Table:
    """The table of `rows`. Columns are in the order of the CSV file.

    `shown`: keys of the columns that readers see, in their order, where that is not all in the file's; () makes a CSV
    file only. `printed`: the rows that readers see, where that is not all: a list is cut, or several rows of the file
    are one line for readers.
    `title` and `lead` are the phrases `table.NAME` and `lead.NAME` unless given; a lead may be missing.
    """
    seen = rows if printed is None else printed
    by_key = {column.key: column for column in columns if column.show}
    visible = [by_key[key] for key in (by_key if shown is None else shown)]
    return Table(
        name,
        title or words(f"table.{name}"),
        tuple(
            (column.key, words(f"column.{column.key}") if column.title is None else column.title) for column in visible
        ),
        tuple({column.key: column.show(row, words) for column in visible if column.show} for row in seen),
        tuple({key: value for column in columns for key, value in column.cells(row).items()} for row in rows),
        strong=frozenset(i for i, row in enumerate(seen) if strong(row)),
        faint=frozenset(i for i, row in enumerate(seen) if faint(row)),
        numeric=frozenset(column.key for column in visible if column.numeric),
        wide=frozenset(column.key for column in visible if not column.terminal),
        lead=lead or (words(f"lead.{name}") if words.has(f"lead.{name}") else ""),
        about={column.key: found for column in visible if (found := _definition(name, column, words))},
        place=place,
    )


def _definition(table: str, column: Column[Any], words: Language) -> str:
    """Where a column means another thing than elsewhere, the table has a definition of its own."""
    about = column.about or column.key
    return next((key for key in (f"{table}_{about}", about) if words.has(f"about.{key}")), "")


def _plain(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, str):
        return text_in_cell(value)
    return round(value, 6) if isinstance(value, float) else value
