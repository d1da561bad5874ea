"""`Pooled` → text with a forest plot in characters, page, figure, table. Words follow numbers, as in a run's report.

`write` makes index.html (self-contained, offline), forest.svg, .png and .pdf, pooled.csv and
pooled.md. `text` is the same for the terminal.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt

from kiyas.analyse import Level
from kiyas.pooling import Pooled, PooledDifference, Replication
from kiyas.report import drawing, metric
from kiyas.report.charts import Chart, finish, interval_layers
from kiyas.report.dot_plot import Dot
from kiyas.report.first_screen import Fact
from kiyas.report.language import DASH, Language, languages, others, suffix
from kiyas.report.page import document
from kiyas.report.quoting import markdown as plain
from kiyas.report.sentences import Conclusion, arm_name, method, p_value, question
from kiyas.report.table import Column, Table, interval, label, number, table
from kiyas.runfolder.files import atomic_text
from kiyas.stats.inference import Interval
from kiyas.types import BASE_ARM
from kiyas.work.console import safe

LONGEST_NAME, LONGEST_IN_TITLE = 24, 16
"""characters"""
MOST_FACTS = 7
"""replications that have a row of the strip on a wide screen"""
OWN = "en"
"""the language whose files have plain names"""


def write(folder: Path, found: Pooled, *, language: str = "en") -> Path:
    """Writes all files into `folder` and returns the path of the page.

    They are written in `language`, and again in every other one that is there, so that no two pages have different
    numbers. English has the plain names, another language is in the names of its files (index.tr.html).
    """
    there = [each for each in languages() if (folder / f"index{suffix(each, OWN)}.html").exists()]
    wanted = [*(each for each in there if each != language), language]
    with drawing.engine() as engine:
        return [_write(folder, found, Language(each), wanted, engine) for each in wanted][-1]


def _write(folder: Path, found: Pooled, words: Language, wanted: list[str], engine: drawing.Engine) -> Path:
    table, end = rows(found, words), suffix(words.language, OWN)
    chart = drawing.drawn({"forest": forest(found, words)}, engine)["forest"]
    chart.write(folder, end)
    atomic_text(folder / f"pooled{end}.csv", table.csv())
    atomic_text(folder / f"pooled{end}.md", markdown(found, words, table, chart, end))
    html = folder / f"index{end}.html"
    atomic_text(
        html, page(found, words, table, chart, drawing.javascript(engine), end, others(words.language, OWN, wanted))
    )
    return html


def conclusion(found: Pooled, words: Language) -> Conclusion:
    """What the replications say together, and whether they agree."""
    first = found.answers[0]
    a, b = arm_name(words, found.a), arm_name(words, found.b)
    badge = metric.badge(words, found.metric, words(f"decision.{found.decision}", a=a, b=b))
    if found.exploratory:
        badge = words("decision.exploratory", badge=badge)
    difference, interval = first.difference, first.interval
    key = "single" if first.method == "single" else found.decision.value
    if key == "less":
        # The same sentence with the arms changed about, so that the winner is always its subject.
        key, a, b = "more", b, a
        difference, interval = -difference, -interval
    sentence = words(
        f"pooled.{key}",
        n=len(found.replications),
        a=a,
        b=b,
        difference=words.points(difference),
        interval=words.points_interval(interval),
        interval90=words.points_interval(first.interval90),
        margin=words.points(found.margin, signed=False),
    )
    sentence = metric.sentence(words, found.metric, sentence)
    # Where the replications answered the same problems, their spread is that on these problems.
    where = words("pooled.within") if found.problems is not None else ""
    agreement = words(f"pooled.{found.agreement}", where=where)
    return Conclusion(
        found.decision.value, badge, sentence, tuple(_statistics(found, words, where)), scope=(agreement,)
    )


def _statistics(found: Pooled, words: Language, where: str) -> list[str]:
    meta, said = found.meta, list[str]()
    if meta is None:
        return said
    tau2, i2 = meta.tau2_interval, meta.i2_interval
    tau = Interval(math.sqrt(tau2.low), math.sqrt(tau2.high)) if tau2 else None
    said.append(
        words(
            "pooled.heterogeneity",
            where=where,
            q=words.number(meta.q),
            df=meta.df,
            p=words.p(meta.q_p),
            i2=words.percent(meta.i2),
            i2_interval=words.share_interval(i2) if i2 else DASH,
            tau=words.points(math.sqrt(meta.tau2), signed=False),
            tau_interval=words.points_interval(tau, signed=False),
        )
    )
    if tau2 is None:
        said.append(words("pooled.too_close"))
    key = "no_prediction" if meta.prediction is None else "prediction_within" if where else "prediction"
    said.append(words(f"pooled.{key}", interval=words.points_interval(meta.prediction), problems=found.problems))
    first, *beside = found.answers
    bootstrap = words.points_interval(first.bootstrap)
    said.append(words(f"pooled.how_{first.method}", p=words.p(first.p), bootstrap=bootstrap, df=meta.df))
    said += [
        words(
            "pooled.beside_meta",
            problems=found.problems,
            difference=words.points(other.difference),
            interval=words.points_interval(other.interval),
            p=words.p(other.p),
        )
        for other in beside
    ]
    if beside:
        said.append(words("pooled.covers"))
    return said + [words(f"pooled.{each.code}", **each.values) for each in found.widths]


def _remarks(found: Pooled, words: Language) -> list[tuple[Level, str]]:
    return [(remark.level, words(f"pooled.{remark.code}", **remark.values)) for remark in found.remarks]


def _label(found: Pooled, answer: PooledDifference, words: Language) -> str:
    if answer.method == "meta" and found.problems is not None:
        return words("pooled.row_within")
    unknown = any(remark.code == "problems_unknown" for remark in found.remarks)
    return words("pooled.row_meta_unknown" if unknown else f"pooled.row_{answer.method}")


def _covers(found: Pooled, line: _Line) -> str:
    """What an interval speaks of beside what was seen: other problems or these only, other trainings or these."""
    if line.replication is not None:
        return "trainings" if line.replication.seeds > 1 else "pair"
    if line.method != "crossed" and found.problems is not None:
        return "these"
    unknown = any(remark.code == "problems_unknown" for remark in found.remarks)
    return "unknown" if unknown else "replications"


@dataclass(frozen=True)
class _Line:
    """A line of table and plots: a replication, which has a weight, or what is pooled of them."""

    name: str
    method: str
    interval: Interval
    difference: float | None = None
    p: float | None = None
    exact_p: float | None = None
    problems: int | None = None
    weight: float | None = None
    replication: Replication | None = None


def _lines(found: Pooled, words: Language) -> list[_Line]:
    """Every line of table and plots, in order: replications, pooled answers, prediction."""
    weights = found.meta.weights if found.meta else (1.0,)
    lines = [
        _Line(each.name, each.method, each.interval, each.difference, each.p, each.exact_p, each.problems, weight, each)
        for each, weight in zip(found.replications, weights, strict=True)
    ]
    if found.meta is None:
        return lines
    lines += [
        _Line(_label(found, each, words), each.method, each.interval, each.difference, each.p, problems=found.problems)
        for each in found.answers
    ]
    if found.meta.prediction:
        row = "row_prediction" if found.problems is None else "row_prediction_within"
        lines.append(_Line(words(f"pooled.{row}"), "prediction", found.meta.prediction))
    return lines


def rows(found: Pooled, words: Language) -> Table:
    """One row a replication, then what is pooled of them."""
    a, b = arm_name(words, found.a), arm_name(words, found.b)

    def own(key: str) -> Callable[[_Line], Any]:
        """What only replications have."""
        return lambda line: getattr(line.replication, key, None)

    columns: tuple[Column[_Line], ...] = (
        label("replication", lambda line: line.name),
        label("how", lambda line: line.method, method, file="method"),
        label("covers", lambda line: _covers(found, line), lambda words, code: words(f"pooled.covers_{code}")),
        Column("arms", lambda line: {"a": found.a, "b": found.b}),
        number("seeds", own("seeds"), none=""),
        number("problems", lambda line: line.problems, none=""),
        number("a_rate", own("a_rate"), Language.percent, none="", title=a, about="arm_rate"),
        number("b_rate", own("b_rate"), Language.percent, none="", title=b, about="arm_rate"),
        number("difference", lambda line: line.difference, Language.points, none=""),
        Column("standard_error", own("standard_error")),
        Column("within_error", own("within_error")),
        Column(
            "p",
            lambda line: {"p": line.p, "p_exact": line.exact_p},
            lambda line, words: "" if line.p is None else p_value(words, line.p, line.exact_p),
            numeric=True,
            title=words("column.p_both") if any(each.exact_p is not None for each in found.replications) else None,
        ),
        number("weight", lambda line: line.weight, Language.percent, none=""),
        interval("interval", lambda line: line.interval, Language.points_interval),
    )
    size, rates = ("seeds", "problems"), ("a_rate", "b_rate")
    return table(
        "pooled",
        words,
        _lines(found, words),
        columns,
        shown=("replication", *size, *rates, "difference", "interval", "covers", "p", "weight", "how"),
        title=words("pooled.title", n=len(found.replications), a=a, b=b),
        strong=lambda line: line.method == found.answers[0].method,
    )


def _reach(lines: list[_Line]) -> float:
    """Half the width of the plots' axis: every replication fits; the wide intervals of two replications need not."""
    ends = [abs(end) for line in lines if line.replication for end in (line.interval.low, line.interval.high)]
    return max(0.05, *ends) * 1.05


def text(found: Pooled, *, language: str = "en", width: int = 100) -> str:
    """The forest plot in characters, the conclusion and its warnings; no line is longer than `width`."""
    words = Language(language)
    said, table = conclusion(found, words), rows(found, words)
    lines = [*_wrapped(table.title, width, ""), "", *_plot(found, words, table, width), ""]
    lines += _wrapped(f"{words('text.conclusion')}: {said.badge}", width, "")
    lines += [line for each in (said.sentence, *said.more) for line in _wrapped(each, width, "  ")]
    if found.remarks:
        lines += ["", words("heading.read_first")]
        for level, each in _remarks(found, words):
            lines += _wrapped(each, width, "  ! " if level is Level.WARNING else "  · ")
    return "\n".join(safe(line).rstrip() for line in lines) + "\n"


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(safe(text), width, initial_indent=indent, subsequent_indent=" " * len(indent))


def _plot(found: Pooled, words: Language, table: Table, width: int) -> list[str]:
    """Name, seeds × problems, difference, interval, plot, weight: one line a row, and the axis below."""
    drawn = _lines(found, words)
    reach = _reach(drawn)
    cells = [
        (
            _name(line, LONGEST_NAME if width >= 80 else LONGEST_NAME // 2),
            f"{row['seeds']} × {row['problems']}" if line.replication else "",
            row["difference"],
            row["interval"],
            row["weight"],
        )
        for line, row in zip(drawn, table.shown, strict=True)
    ]
    wide = [max(len(row[i]) for row in cells) for i in range(5)]
    # An odd number of places, so that zero has one of its own.
    places = (max(9, width - sum(wide) - 6) - 1) // 2 * 2 + 1
    lines = []
    for i, (each, cell) in enumerate(zip(drawn, cells, strict=True)):
        if i == len(found.replications):
            lines.append("")
        name, size, difference, interval, weight = (
            text.ljust(n) if j == 0 else text.rjust(n) for j, (text, n) in enumerate(zip(cell, wide, strict=True))
        )
        plot = _line(each.interval, each.difference, reach, places, "■" if each.replication else "◆")
        lines.append(f"{name} {size} {difference} {interval} {plot} {weight}")
    left = " " * (sum(wide[:4]) + 4)
    low, high = words.points(-reach), words.points(reach)
    middle = places // 2
    lines.append(f"{left}{low}{'0'.rjust(middle + 1 - len(low))}{high.rjust(places - middle - 1)}")
    axis = words("pooled.axis", a=arm_name(words, found.a), b=arm_name(words, found.b))
    lines.append(f"{left}{_cut(axis, places).center(places)}")
    return lines


def _name(line: _Line, longest: int = LONGEST_NAME) -> str:
    """A replication's name may be of any length; the others are ours."""
    return _cut(line.name, longest) if line.replication else line.name


def _cut(name: str, longest: int = LONGEST_NAME) -> str:
    clean = safe(name)
    return clean if len(clean) <= longest else f"{clean[: longest - 1]}…"


def _line(interval: Interval, difference: float | None, reach: float, places: int, mark: str) -> str:
    """One interval as characters; an end beyond the axis is an arrow."""

    def at(share: float) -> int:
        return round((share / reach + 1) / 2 * (places - 1))

    low, high = at(interval.low), at(interval.high)
    line = ["─" if low <= i <= high else " " for i in range(places)]
    line[places // 2] = "┼" if line[places // 2] == "─" else "│"
    for i, end, beyond in ((low, "├", "◂"), (high, "┤", "▸")):
        line[min(max(i, 0), places - 1)] = end if 0 <= i < places else beyond
    if difference is not None:
        line[min(max(at(difference), 0), places - 1)] = mark
    return "".join(line)


def forest(found: Pooled, words: Language) -> Chart:
    """The forest plot: squares by weight, diamonds for what is pooled, a line alone for one more replication."""
    dots = [
        Dot(
            _name(line),
            limits if line.difference is None else words.estimate(words.points(line.difference), limits),
            100 * line.interval.low,
            100 * line.interval.high,
            None if line.difference is None else 100 * line.difference,
            strong=line.replication is None,
            size=260 if line.weight is None else 60 + 340 * line.weight,
            shape="square" if line.replication else "diamond",
        )
        for line in _lines(found, words)
        for limits in [words.points_interval(line.interval)]
    ]
    # A title that is wider than the chart would leave no room for it.
    a, b = (_cut(arm_name(words, arm), LONGEST_IN_TITLE) for arm in (found.a, found.b))
    title = [words("pooled.axis", a=a, b=b)]
    if found.margin:
        title.append(words("chart.margin", margin=words.points(found.margin, signed=False)))
    layers, height = interval_layers(
        dots, 100 * (found.margin or 0.0), title, words, most=100 * _reach(_lines(found, words))
    )
    label = "; ".join(f"{dot.name}: {dot.said}" for dot in dots)
    spec = finish(alt.layer(*layers), 560, height)
    spec["config"]["locale"] = words.chart_locale()
    return Chart("forest", words("pooled.forest"), label, spec)


def markdown(found: Pooled, words: Language, table: Table, chart: Chart, end: str = "") -> str:
    """pooled.md: the same sentences and the same table, for a repository or a chat."""
    said = conclusion(found, words)
    lines = [f"# {plain(table.title)}", "", f"**{plain(said.badge)}.** {plain(said.sentence)}", ""]
    lines += [f"- {plain(each)}" for each in said.more]
    figure = f"![{{}}](forest{end}.svg)" if chart.drawing else "*{}*"
    said_of_it = chart.title if chart.drawing else words("page.no_figure", name=chart.title)
    lines += ["", table.markdown(), "", figure.format(plain(said_of_it))]
    if found.remarks:
        lines += ["", f"## {words('heading.read_first')}", ""]
        lines += [f"- **{words(f'level.{level}')}.** {plain(each)}" for level, each in _remarks(found, words)]
    return "\n".join(lines) + "\n"


def page(
    found: Pooled,
    words: Language,
    table: Table,
    chart: Chart,
    library: str,
    end: str = "",
    links: list[tuple[str, str, str]] | None = None,
) -> str:
    """The whole HTML text. Names from files pass jinja2's autoescape; nothing is fetched."""
    return document(
        "pooled.html.j2",
        words,
        {"forest": chart},
        library,
        **first(found, words, table),
        figures="",
        suffix=end,
        others=links or [],
    )


def first(found: Pooled, words: Language, table: Table) -> dict[str, Any]:
    """What the first screen shows of pooled replications, but for its chart."""
    return {
        "names": [arm for arm in (found.a, found.b) if arm != BASE_ARM],
        "title": table.title,
        "t": table,
        "facts": _facts(found, words),
        "question": question((found.a, found.b), words),
        "conclusion": conclusion(found, words),
        "warnings": _remarks(found, words),
    }


def _facts(found: Pooled, words: Language) -> list[Fact]:
    """What was pooled: each replication with its rates, seeds and problems; of many, how many they are."""
    facts = []
    if len(found.replications) > MOST_FACTS:
        sizes = sorted({each.problems for each in found.replications if each.problems})
        lines = [words("first.problems", n=DASH.join(map(str, dict.fromkeys((sizes[0], sizes[-1])))))] if sizes else []
        return [Fact(words("pooled.replications"), str(len(found.replications)), tuple(lines))]
    for each in found.replications:
        lines = [f"{found.a} {words.percent(each.a_rate)}, {found.b} {words.percent(each.b_rate)}"]
        lines += [words("first.problems", n=each.problems)] if each.problems else []
        lines += [words("first.seeds", n=each.seeds)] if each.seeds else []
        facts.append(Fact(words("pooled.replication"), each.name, tuple(lines)))
    return facts


def line(found: Pooled) -> str:
    """The arms and the conclusion in one English line, for a terminal."""
    said = conclusion(found, Language("en"))
    return safe(f"{found.b} against {found.a}: {said.badge}. {said.sentence}")
