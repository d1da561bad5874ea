"""The report's charts: one Vega-Lite definition each, drawn live in the page and still for the files."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt

from kiyas.analyse.findings import Contrast, Curve, Findings
from kiyas.judge.terminal import printable
from kiyas.report import dot_plot, sentences
from kiyas.report.dot_plot import Dot
from kiyas.report.language import Language
from kiyas.runfolder.files import atomic_bytes, atomic_text

Spec = dict[str, Any]
# Okabe–Ito's hues, lightened or darkened until they read on white and on near-black alike.
COLOURS = ("#2f7fc1", "#d9622b", "#1a9e77", "#b8639f", "#c2930f", "#4aa8d8", "#8c6bb1", "#7d6a45")
BASE_COLOUR, INK = dot_plot.GREY, "#2b2f3a"
LONGEST_NAME = 100
"""bytes"""
DASHES = ([2, 3], [1, 0], [8, 3], [8, 3, 2, 3], [4, 4], [12, 4])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
"""Of loss curves: training, validation, validation on other sets; of the metric: arms. They are neither as many as the
colours nor as the dashes, so that what shares one of those differs in its shape."""
HIGHEST_LOSS = 3
"""times the highest first loss: a training that diverged does not press all curves of the study flat"""
SEEDS = alt.expr("seeds ? 0.55 : 0")
"""The page may switch single seeds off."""
TICKS = alt.expr("max(2, width / 90)")
"""So many labels have room side by side."""
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
    """All charts by name: rates, difference, differences, pass, loss-ARM. One that would show a single point is left
    out."""
    made: list[Chart] = []
    known = [contrast for contrast in findings.contrasts if math.isfinite(contrast.difference)]
    if any(math.isfinite(result.mean) for result in findings.results):
        made.append(rates(findings, words))
    if any(contrast.primary for contrast in known):
        made.append(differences(findings, words, [each for each in known if each.primary], "difference"))
    if any(not contrast.primary for contrast in known):
        made.append(differences(findings, words, known, "differences"))
    judged = Counter(score.adapter.training for score in findings.scores if math.isfinite(score.rate))
    if any(n > 1 for n in judged.values()):
        made.append(pass_over_steps(findings, words))
    span = _span(findings.curves)
    used: set[str] = set()
    for arm in findings.arms:
        found = [curve for curve in findings.curves if curve.training.arm == arm]
        # One logged point is no curve.
        if any(len(points) > 1 for curve in found for points in (curve.train, curve.validation)):
            name = f"loss-{slug(arm)}"
            while name in used:
                name += "-x"
            used.add(name)
            made.append(loss(arm, name, found, words, arm_colour(findings, arm), span))
    for chart in made:
        chart.spec["config"]["locale"] = words.chart_locale()
    return {chart.name: chart for chart in made}


def arm_colour(findings: Findings, arm: str) -> str:
    arms = list(findings.arms)
    return COLOURS[arms.index(arm) % len(COLOURS)] if arm in arms else BASE_COLOUR


def finish(chart: alt.LayerChart | alt.Chart, width: int, height: int) -> Spec:
    spec: Spec = chart.properties(width=width, height=height).to_dict(validate=False)
    spec["params"] = [{"name": "seeds", "value": True}]
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
            "labelColor": INK,
            "labelLimit": 150,
        },
        "text": {"fontSize": 12, "color": INK},
        "mark": {"color": INK},
        "rule": {"color": INK},
    }
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    cleaned: Spec = _clean(spec)
    return cleaned


def _span(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """The lowest and the highest loss of the study, cut at `HIGHEST_LOSS`: charts side by side have one scale."""
    listed = [
        [point.loss for point in points if math.isfinite(point.loss)]
        for curve in curves
        for points in (curve.train, curve.validation, *curve.others.values())
    ]
    losses = [loss for each in listed for loss in each]
    if not losses:
        return None
    most = HIGHEST_LOSS * max(each[0] for each in listed if each)
    return min(losses), min(max(losses), most) if most > min(losses) else max(losses)


def loss(
    arm: str, name: str, curves: list[Curve], words: Language, colour: str, span: tuple[float, float] | None
) -> Chart:
    """Losses of one arm in its colour, a mark at every logged step; sets differ by dash and shape, thin lines are
    seeds."""
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
    first = str(rows[0]["seed"])
    dashes, shapes = DASHES[: len(sets)], SHAPES[: len(sets)]
    legend = alt.Legend(columns=2, symbolSize=60)
    cut = span is not None and any(row["loss"] > span[1] for row in rows)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("step:Q", title=words("chart.step"), scale=_steps(rows), axis=_step_axis(rows)),
        y=alt.Y(
            "loss:Q",
            title=words("chart.loss_cut" if cut else "chart.loss"),
            scale=alt.Scale(zero=False, nice=True, clamp=True, domain=list(span) if span else alt.Undefined),
            axis=alt.Axis(tickCount=6),
        ),
        detail="seed:N",
        tooltip=[
            alt.Tooltip("set:N", title=words("chart.set")),
            alt.Tooltip("step:Q", title=words("chart.step")),
            alt.Tooltip("shown:N", title=words("chart.loss")),
            alt.Tooltip("seed:N", title=words("chart.seed")),
        ],
    )
    several = len(curves) > 1
    shown = alt.condition(_seed_shown(first), alt.value(0.65 if several else 1), alt.value(0))
    lines = base.mark_line(strokeWidth=1.4 if several else 2.2, color=colour).encode(
        strokeDash=alt.StrokeDash("set:N", scale=alt.Scale(domain=sets, range=dashes), legend=legend), opacity=shown
    )
    marks = base.mark_point(filled=True, size=22 if several else 38, color=colour).encode(
        shape=alt.Shape("set:N", scale=alt.Scale(domain=sets, range=shapes), legend=legend), opacity=shown
    )
    layers: list[Any] = [lines, marks]
    lowest = [
        (c.reading.lowest_step, f"{c.training.variant} {c.training.seed}".strip())
        for c in curves
        if c.reading and c.reading.of == "validation" and c.reading.lowest_step is not None
    ]
    if lowest:
        rule = alt.Chart(alt.Data(values=[{"step": step, "seed": seed} for step, seed in lowest]))
        rule = rule.encode(x="step:Q", opacity=shown, tooltip=[alt.Tooltip("step:Q", title=words("chart.lowest"))])
        at = min(step for step, _ in lowest)
        left = 2 * at < max(int(row["step"]) for row in rows)
        text = alt.Chart(alt.Data(values=[{"step": at, "what": words("chart.lowest")}])).mark_text(
            align="left" if left else "right", dx=4 if left else -4, baseline="top", fontSize=11
        )
        layers = [
            rule.mark_rule(strokeDash=[3, 3], color=BASE_COLOUR),
            *layers,
            text.encode(x="step:Q", y=alt.value(2), text="what:N"),
        ]
    title = f"{words('heading.loss')}: {arm}"
    label = f"{title}. {sentences.reading(curves[0], words)}"
    return Chart(name, title, label, finish(alt.layer(*layers), 460, 280), arm)


def _seed_shown(first: str) -> str:
    """Vega's condition under which a seed is on the screen: all are, unless the reader switched them off."""
    return f"seeds || datum.seed == {json.dumps(first)}"


def _steps(rows: Sequence[Mapping[str, Any]]) -> alt.Scale:
    """From the first to the last step, without room beside them."""
    steps = [row["step"] for row in rows]
    return alt.Scale(domain=[min(0, *steps), max(1, *steps)], nice=False)


def _step_axis(rows: Sequence[Mapping[str, Any]]) -> alt.Axis:
    steps = sorted({row["step"] for row in rows})
    ticks = {"values": steps} if len(steps) <= 10 else {"tickCount": TICKS, "tickMinStep": 1}
    return alt.Axis(grid=False, labelOverlap="greedy", labelSeparation=8, labelFlush=True, **ticks)


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
    legend = alt.Legend(columns=2)
    colour = alt.Color(
        "arm:N", scale=alt.Scale(domain=arms, range=[arm_colour(findings, arm) for arm in arms]), legend=legend
    )
    single = len({row["line"] for row in rows}) == len(arms)
    step = [words("chart.step"), words("chart.band" if single else "chart.thick")]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("step:Q", title=step, scale=_steps(rows), axis=_step_axis(rows)), color=colour, detail="line:N"
    )
    y = alt.Y(
        "rate:Q", title=findings.metric, axis=alt.Axis(labelExpr=words.chart_percent()), scale=alt.Scale(zero=True)
    )
    tooltip = [
        alt.Tooltip("arm:N", title=words("chart.arm")),
        alt.Tooltip("seed:N", title=words("chart.seed")),
        alt.Tooltip("step:Q", title=words("chart.step")),
        alt.Tooltip("shown:N", title=findings.metric),
        alt.Tooltip("solved:N", title=words("column.solved")),
        alt.Tooltip("between:N", title=words("chart.interval")),
    ]
    layers: list[Any] = []
    if single:
        layers.append(base.mark_area(opacity=0.10).encode(y="low:Q", y2="high:Q"))
    else:
        means = alt.Chart(alt.Data(values=_means(rows))).encode(x="step:Q", y=y, color=colour, detail="arm:N")
        layers.append(means.mark_line(strokeWidth=3))
    faint = {} if single else {"opacity": SEEDS}
    layers.append(base.mark_line(strokeWidth=2.2 if single else 1, **faint).encode(y=y))
    shapes = [SHAPES[findings.arms.index(arm) % len(SHAPES)] for arm in arms]
    shape = alt.Shape("arm:N", scale=alt.Scale(domain=arms, range=shapes), legend=legend)
    marks = base.mark_point(filled=True, size=60 if single else 34, **faint)
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
            rule.mark_text(align="right", baseline="top", dx=-4, dy=5).encode(
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


def _share_axis(words: Language) -> alt.Axis:
    return alt.Axis(labelExpr=words.chart_percent(), tickCount=TICKS, labelFlush=True, grid=False)


def rates(findings: Findings, words: Language) -> Chart:
    """The metric of the base and of every arm with its interval; small dots are single seeds."""
    dots = []
    for found in findings.results:
        if not math.isfinite(found.mean):
            continue
        single = [score.rate for adapter in found.adapters if (score := findings.score(adapter))]
        dots.append(
            Dot(
                sentences.arm_name(words, found.arm),
                words.estimate(words.percent(found.mean), words.share_interval(found.interval)),
                found.interval.low,
                found.interval.high,
                found.mean,
                arm_colour(findings, found.arm),
                seeds=tuple(rate for rate in single if math.isfinite(rate)) if len(single) > 1 else (),
            )
        )
    title = [words("chart.share", metric=findings.metric, n=findings.problems), words("chart.line")]
    title += [words("chart.small")] if any(dot.seeds for dot in dots) else []
    x = dot_plot.scale(dots)
    layers, height = dot_plot.layers(dots, x, _share_axis(words), title, words("chart.seed"))
    label = "; ".join(f"{dot.name}: {dot.said}" for dot in dots)
    name = words("chart.rates", metric=findings.metric)
    return Chart("rates", name, f"{name}. {label}", finish(alt.layer(*layers), 560, height))


def differences(findings: Findings, words: Language, contrasts: Sequence[Contrast], name: str) -> Chart:
    """Contrasts with their 95% intervals; zero and the declared margin are behind."""
    dots = [
        Dot(
            words("cell.minus", a=sentences.arm_name(words, each.a), b=sentences.arm_name(words, each.b)),
            words.estimate(words.points(each.difference), sentences.points_interval(words, each.interval)),
            100 * each.interval.low,
            100 * each.interval.high,
            100 * each.difference,
            strong=each.primary,
            seeds=tuple(100 * pair.difference for pair in each.pairs) if len(each.pairs) > 1 else (),
        )
        for each in contrasts
        if math.isfinite(each.difference)
    ]
    margin = 100 * (findings.margin or 0.0)
    title = [words("chart.difference", metric=findings.metric)]
    if margin:
        title.append(words("chart.margin", margin=words.points(findings.margin, signed=False)))
    layers, height = interval_layers(dots, margin, title, words)
    label = "; ".join(f"{dot.name}: {dot.said}" for dot in dots)
    return Chart(name, words("table.contrasts"), label, finish(alt.layer(*layers), 560, height))


def interval_layers(
    dots: Sequence[Dot], margin: float, title: Sequence[str], words: Language, most: float | None = None
) -> tuple[list[Any], int]:
    """Differences in points over zero and the margin, and the height of the rows."""
    x = dot_plot.scale(dots, zero=True, margin=margin, most=most)
    axis = alt.Axis(
        tickCount=TICKS, labelExpr="abs(datum.value) < 1e-9 ? '0' : datum.label", labelFlush=True, grid=False
    )
    low, high = x["domain"]
    beyond = any(dot.low < low or dot.high > high for dot in dots)
    said = [*title, words("chart.beyond")] if beyond else list(title)
    layers, height = dot_plot.layers(dots, x, axis, said, words("chart.seed"))
    return [*dot_plot.behind(margin, x, words("chart.margin", margin=words.number(margin))), *layers], height
