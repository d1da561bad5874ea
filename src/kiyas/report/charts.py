"""The report's charts: one Vega-Lite definition each, drawn live in the page and still for the files."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt

from kiyas.analyse.findings import Curve, Findings
from kiyas.judge.terminal import printable
from kiyas.report import sentences
from kiyas.report.language import Language
from kiyas.runfolder.files import atomic_bytes, atomic_text

Spec = dict[str, Any]
# Okabe–Ito's hues, lightened or darkened until they read on white and on near-black alike.
COLOURS = ("#2f7fc1", "#d9622b", "#1a9e77", "#b8639f", "#c2930f", "#4aa8d8", "#8c6bb1", "#7f7f7f")
BASE_COLOUR = "#8a8f98"
LONGEST_NAME = 100
"""bytes"""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


@dataclass(frozen=True)
class Drawing:
    """A chart as files."""

    svg: str
    png: bytes
    pdf: bytes


@dataclass(frozen=True)
class Chart:
    """`name` is the figure's file name; `label` says in words what it shows, for those who cannot see it."""

    name: str
    title: str
    label: str
    spec: Spec
    arm: str | None = None
    drawing: Drawing | None = None
    """what `drawing.py` made of it; None where the engine could not"""

    def write(self, folder: Path, suffix: str = "") -> None:
        """NAME.svg, NAME.png and NAME.pdf, where they could be drawn; `suffix`: that of the language."""
        if self.drawing is not None:
            atomic_text(folder / f"{self.name}{suffix}.svg", self.drawing.svg)
            atomic_bytes(folder / f"{self.name}{suffix}.png", self.drawing.png)
            atomic_bytes(folder / f"{self.name}{suffix}.pdf", self.drawing.pdf)


def _clean(value: Any) -> Any:
    """A chart's definition, its texts without characters that end the engine."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def slug(text: str) -> str:
    """A safe file name, short enough for every file system."""
    name = re.sub(r"[^\w.-]+", "-", text).strip("-.")
    return name.encode()[:LONGEST_NAME].decode(errors="ignore") or "arm"


def charts(findings: Findings, words: Language) -> dict[str, Chart]:
    """All charts by name: differences, pass, loss-ARM."""
    made: list[Chart] = []
    if any(math.isfinite(contrast.difference) for contrast in findings.contrasts):
        made.append(differences(findings, words))
    if any(math.isfinite(score.rate) for score in findings.scores if not score.adapter.is_base):
        made.append(pass_over_steps(findings, words))
    used: set[str] = set()
    for arm in findings.arms:
        found = [curve for curve in findings.curves if curve.training.arm == arm]
        if found:
            name = f"loss-{slug(arm)}"
            while name in used:
                name += "-x"
            used.add(name)
            made.append(loss(arm, name, found, words))
    for chart in made:
        chart.spec["config"]["locale"] = words.chart_locale()
    return {chart.name: chart for chart in made}


def arm_colour(findings: Findings, arm: str) -> str:
    arms = list(findings.arms)
    return COLOURS[arms.index(arm) % len(COLOURS)] if arm in arms else BASE_COLOUR


def finish(chart: alt.LayerChart | alt.Chart, width: int, height: int) -> Spec:
    spec: Spec = chart.properties(width=width, height=height).to_dict(validate=False)
    spec["config"] = {
        "font": FONT,
        "background": "white",
        "view": {"stroke": None},
        "axis": {
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": 500,
            "gridColor": "#e8e8ec",
            "domainColor": "#b9bcc4",
            "tickColor": "#b9bcc4",
            "labelColor": "#4b5060",
            "titleColor": "#4b5060",
        },
        "legend": {
            "orient": "top",
            "title": None,
            "labelFontSize": 12,
            "symbolSize": 90,
            "symbolOpacity": 1,
            "labelColor": "#2b2f3a",
            "labelLimit": 260,
        },
        "text": {"fontSize": 12, "color": "#2b2f3a"},
    }
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    cleaned: Spec = _clean(spec)
    return cleaned


def _label_format(words: Language) -> str:
    """An axis format of percent in the language's own order."""
    return words.chart_percent()


def loss(arm: str, name: str, curves: list[Curve], words: Language) -> Chart:
    """Losses of one arm, a mark at every logged step; thin lines are seeds."""
    sets = [words("chart.train"), words("chart.validation")]
    rows: list[dict[str, Any]] = []
    for curve in curves:
        named = [(sets[0], curve.train), (sets[1], curve.validation)]
        for other, points in curve.others.items():
            label = words("chart.other", name=other)
            named.append((label, points))
            if label not in sets:
                sets.append(label)
        who = f"{curve.training.variant} {curve.training.seed}".strip()
        rows += [
            {"step": p.step, "loss": p.loss, "set": label, "seed": who, "shown": words.number(p.loss, 4)}
            for label, points in named
            for p in points
        ]
    colour = alt.Color(
        "set:N", scale=alt.Scale(domain=sets, range=[COLOURS[0], COLOURS[1], *COLOURS[2:][: len(sets) - 2]])
    )
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("step:Q", title=words("chart.step"), axis=alt.Axis(tickMinStep=1, grid=False)),
        y=alt.Y("loss:Q", title=words("chart.loss"), scale=alt.Scale(zero=False, nice=True)),
        color=colour,
        detail="seed:N",
        tooltip=[
            alt.Tooltip("set:N", title=words("chart.set")),
            alt.Tooltip("step:Q", title=words("chart.step")),
            alt.Tooltip("shown:N", title=words("chart.loss")),
            alt.Tooltip("seed:N", title=words("chart.seed")),
        ],
    )
    thin = len(curves) > 1
    lines = base.mark_line(strokeWidth=1.4 if thin else 2.2, opacity=0.65 if thin else 1)
    marks = base.mark_point(filled=True, size=22 if thin else 38, opacity=0.9).encode(
        shape=alt.Shape("set:N", scale=alt.Scale(domain=sets))
    )
    layers: list[Any] = [lines, marks]
    lowest = [
        {"step": c.reading.lowest_step, "what": words("chart.lowest")}
        for c in curves
        if c.reading and c.reading.of == "validation"
    ]
    if lowest:
        layers.insert(
            0,
            alt.Chart(alt.Data(values=lowest))
            .mark_rule(strokeDash=[3, 3], color=COLOURS[1], opacity=0.8)
            .encode(
                x="step:Q",
                tooltip=[alt.Tooltip("what:N", title=" "), alt.Tooltip("step:Q", title=words("chart.step"))],
            ),
        )
    title = f"{words('heading.loss')}: {arm}"
    label = f"{title}. {sentences.reading(curves[0], words)}"
    return Chart(name, title, label, finish(alt.layer(*layers), 460, 280), arm)


def pass_over_steps(findings: Findings, words: Language) -> Chart:
    """The metric of every judged checkpoint; thin lines are seeds; the base is the dashed line across."""
    rows: list[dict[str, Any]] = []
    for score in findings.scores:
        if score.adapter.is_base or not math.isfinite(score.rate):
            continue
        who = f"{score.adapter.variant} {score.adapter.seed}".strip()
        rows.append(
            {
                "arm": score.adapter.arm,
                "seed": who,
                "step": score.adapter.step,
                "rate": score.rate,
                "low": score.interval.low,
                "high": score.interval.high,
                "shown": words.percent(score.rate),
                "solved": words("cell.of", solved=words.count(score.solved), n=score.problems),
                "between": words.share_interval(score.interval),
                "line": f"{score.adapter.arm} {who}",
            }
        )
    arms = [arm for arm in findings.arms if any(row["arm"] == arm for row in rows)]
    colour = alt.Color("arm:N", scale=alt.Scale(domain=arms, range=[arm_colour(findings, arm) for arm in arms]))
    steps = sorted({row["step"] for row in rows})
    ticks = {"values": steps} if len(steps) <= 15 else {"tickMinStep": 1}
    percent = alt.Axis(labelExpr=_label_format(words))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("step:Q", title=words("chart.step"), axis=alt.Axis(grid=False, **ticks)),
        color=colour,
        detail="line:N",
    )
    y = alt.Y("rate:Q", title=findings.metric, axis=percent, scale=alt.Scale(zero=True))
    tooltip = [
        alt.Tooltip("arm:N", title=words("chart.arm")),
        alt.Tooltip("seed:N", title=words("chart.seed")),
        alt.Tooltip("step:Q", title=words("chart.step")),
        alt.Tooltip("shown:N", title=findings.metric),
        alt.Tooltip("solved:N", title=words("column.solved")),
        alt.Tooltip("between:N", title=words("chart.interval")),
    ]
    single = len({row["line"] for row in rows}) == len(arms)
    layers: list[Any] = []
    if single:
        layers.append(base.mark_area(opacity=0.10).encode(y="low:Q", y2="high:Q"))
    else:
        means = alt.Chart(alt.Data(values=_means(rows))).encode(x="step:Q", y=y, color=colour, detail="arm:N")
        layers.append(means.mark_line(strokeWidth=3))
    layers.append(base.mark_line(strokeWidth=2.2 if single else 1, opacity=1 if single else 0.4).encode(y=y))
    shape = alt.Shape("arm:N", scale=alt.Scale(domain=arms))
    marks = base.mark_point(filled=True, size=60 if single else 34, opacity=1 if single else 0.75)
    layers.append(marks.encode(y=y, tooltip=tooltip, shape=shape))
    measured = [s for s in findings.scores if s.adapter.is_base and math.isfinite(s.rate)]
    if measured:
        values = [{"rate": s.rate, "what": f"{words('chart.base')} {words.percent(s.rate)}"} for s in measured]
        rule = alt.Chart(alt.Data(values=values))
        layers.append(
            rule.mark_rule(strokeDash=[6, 4], color=BASE_COLOUR, strokeWidth=1.8).encode(
                y="rate:Q", tooltip=alt.Tooltip("what:N", title=" ")
            )
        )
        layers.append(
            rule.mark_text(align="right", baseline="bottom", dx=-4, dy=-4, color=BASE_COLOUR).encode(
                x=alt.value("width"), y="rate:Q", text="what:N"
            )
        )
    title = words("heading.pass", metric=findings.metric)
    return Chart("pass", title, words("heading.pass_lead"), finish(alt.layer(*layers), 900, 300))


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over the seeds, at the steps that every seed of the arm has."""
    seeds: dict[str, set[str]] = {}
    rates: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        seeds.setdefault(row["arm"], set()).add(row["line"])
        rates.setdefault((row["arm"], row["step"]), []).append(row["rate"])
    return [
        {"arm": arm, "step": step, "rate": sum(found) / len(found)}
        for (arm, step), found in rates.items()
        if len(found) == len(seeds[arm])
    ]


def behind(margin: float | None, scale: alt.Scale, what: str = "") -> list[Any]:
    """Layers that are behind intervals: the margin, which a tooltip calls `what`, and zero."""
    layers: list[Any] = []
    if margin:
        band = {"low": -100 * margin, "high": 100 * margin, **({"what": what} if what else {})}
        tooltip = {"tooltip": alt.Tooltip("what:N", title=" ")} if what else {}
        shade = alt.Chart(alt.Data(values=[band])).mark_rect(color=COLOURS[2], opacity=0.14)
        layers.append(shade.encode(x=alt.X("low:Q", scale=scale), x2="high:Q", **tooltip))
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color=BASE_COLOUR)
    return [*layers, zero.encode(x=alt.X("zero:Q", scale=scale))]


def differences(findings: Findings, words: Language) -> Chart:
    """Every contrast with its 95% interval; zero and the declared margin are behind."""
    rows: list[dict[str, Any]] = []
    for found in findings.contrasts:
        if not math.isfinite(found.difference):
            continue
        a, b = sentences.arm_name(words, found.a), sentences.arm_name(words, found.b)
        rows.append(
            {
                "name": words("cell.minus", a=a, b=b),
                "difference": 100 * found.difference,
                "low": 100 * found.interval.low,
                "high": 100 * found.interval.high,
                "shown": words.points(found.difference),
                "between": words.points_interval(found.interval),
                "primary": found.primary,
            }
        )
    reach = max(5.0, *(abs(row[key]) for row in rows for key in ("low", "high"))) * 1.08
    scale = alt.Scale(domain=[-reach, reach], nice=False)
    names = [row["name"] for row in rows]
    weight = alt.condition("datum.primary", alt.value(1), alt.value(0.55))
    data = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y(
            "name:N",
            sort=names,
            title=None,
            axis=alt.Axis(labelLimit=220, domain=False, ticks=False, grid=False, labelFontSize=13),
        ),
        opacity=weight,
        tooltip=[
            alt.Tooltip("name:N", title=words("column.comparison")),
            alt.Tooltip("shown:N", title=words("column.difference")),
            alt.Tooltip("between:N", title=words("chart.interval")),
        ],
    )
    x = alt.X(
        "low:Q",
        title=words("chart.difference", metric=findings.metric),
        scale=scale,
        axis=alt.Axis(tickCount=9, labelExpr="abs(datum.value) < 1e-9 ? '0' : datum.label"),
    )
    layers = behind(findings.margin, scale, words("chart.margin"))
    layers.append(data.mark_rule(strokeWidth=3, strokeCap="round", color=COLOURS[0]).encode(x=x, x2="high:Q"))
    layers.append(data.mark_point(filled=True, size=130, color=COLOURS[0]).encode(x=alt.X("difference:Q", scale=scale)))
    label = "; ".join(f"{row['name']}: {row['shown']} ({row['between']})" for row in rows)
    spec = finish(alt.layer(*layers), 820, 34 * len(rows) + 10)
    # A viewer's font may be wider than the one that the labels were measured with.
    spec["padding"] = {"left": 24, "right": 5, "top": 5, "bottom": 5}
    return Chart("differences", words("table.contrasts"), label, spec)
