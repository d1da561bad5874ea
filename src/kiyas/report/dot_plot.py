"""Estimates with their intervals, one below the other. Names and numbers are above the lines: it fits a phone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

GREY = "#8a8f98"
ROW = 46
"""pixels; the name is in the upper part, the interval in the middle, single seeds below"""
NAME, LINE, SEEDS, SPREAD = 0.32, 0.56, 0.68, 0.36


@dataclass(frozen=True)
class Dot:
    """One row. `at`, `low`, `high` and `seeds` are in the axis's unit; `at` is None where only a range is known."""

    name: str
    said: str
    low: float
    high: float
    at: float | None
    colour: str | None = None
    """None: the colour of text"""
    strong: bool = True
    seeds: tuple[float, ...] = ()
    size: float = 130
    shape: str = "circle"


def scale(dots: Sequence[Dot], *, zero: bool = False, margin: float = 0.0, most: float | None = None) -> alt.Scale:
    """From the lowest to the highest value and no further; with zero and the margin where they are drawn.

    `most`: wide intervals are cut there.
    """
    ends = [end for dot in dots for end in (dot.low, dot.high, *dot.seeds, *([] if dot.at is None else [dot.at]))]
    if most is not None:
        ends = [max(-most, min(most, end)) for end in ends]
    low, high = min(ends), max(ends)
    if zero or margin:
        low, high = min(low, -1.2 * margin, 0.0), max(high, 1.2 * margin, 0.0)
    room = 0.04 * (high - low or 1.0)
    return alt.Scale(domain=[low - (room if low else 0), high + room], nice=False, zero=False, clamp=True)


def behind(margin: float, x: alt.Scale, what: str) -> list[Any]:
    """The margin as a band, which a tooltip calls `what`, and the line at zero."""
    layers: list[Any] = []
    if margin:
        band = alt.Chart(alt.Data(values=[{"low": -margin, "high": margin, "what": what}])).mark_rect(
            color=GREY, opacity=0.18
        )
        layers.append(band.encode(x=alt.X("low:Q", scale=x), x2="high:Q", tooltip=alt.Tooltip("what:N", title=" ")))
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color=GREY, strokeWidth=1.5)
    return [*layers, zero.encode(x=alt.X("zero:Q", scale=x))]


def layers(dots: Sequence[Dot], x: alt.Scale, axis: alt.Axis, title: Any, seed: str = "") -> tuple[list[Any], int]:
    """The layers of all rows, and their height in pixels. `seed`: what a tooltip calls a small dot."""
    rows: list[dict[str, Any]] = []
    seeds: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    for i, dot in enumerate(dots):
        opacity = 1 if dot.strong else 0.6
        row = {"name": dot.name, "said": dot.said, "low": dot.low, "high": dot.high, "at": dot.at, "opacity": opacity}
        row |= {"y": i + LINE, "label": i + NAME, "size": dot.size, "shape": dot.shape}
        colour = {"colour": dot.colour} if dot.colour else {}
        rows.append({**row, **colour})
        equal = Counter(dot.seeds)
        # Equal seeds are one above the other.
        seeds += [
            {"at": at, "y": i + SEEDS + SPREAD * (k + 1) / (n + 1), "what": seed, **colour}
            for at, n in equal.items()
            for k in range(n)
        ]
        low, high = x["domain"]
        cut = [(low, "triangle-left")] if dot.low < low else []
        cut += [(high, "triangle-right")] if dot.high > high else []
        ends += [{"at": at, "y": i + LINE, "shape": shape, **colour} for at, shape in cut]
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[len(dots), 0], nice=False, zero=False))
    tooltip = [alt.Tooltip("name:N", title=" "), alt.Tooltip("said:N", title=" ")]
    position = alt.X("low:Q", title=title, scale=x, axis=axis)

    def coloured(chart: Any, of: Sequence[dict[str, Any]]) -> Any:
        return chart.encode(color=alt.Color("colour:N", scale=None)) if any("colour" in row for row in of) else chart

    base = alt.Chart(alt.Data(values=rows)).encode(
        y=y, opacity=alt.Opacity("opacity:Q", scale=None, legend=None), tooltip=tooltip
    )
    line = base.mark_rule(strokeWidth=3, strokeCap="round").encode(x=position, x2="high:Q")
    dot_marks = base.transform_filter("isValid(datum.at)").mark_point(filled=True, opacity=1)
    dot_marks = dot_marks.encode(
        x=alt.X("at:Q", scale=x), size=alt.Size("size:Q", scale=None), shape=alt.Shape("shape:N", scale=None)
    )
    text = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("label:Q", axis=None))
    names = text.mark_text(align="left", baseline="middle", fontWeight=600, limit=alt.expr("width * 0.56"))
    numbers = text.mark_text(align="right", baseline="middle", limit=alt.expr("width * 0.6"))
    made = [
        coloured(line, rows),
        coloured(dot_marks, rows),
        names.encode(x=alt.value(0), text="name:N"),
        numbers.encode(x=alt.value("width"), text="said:N"),
    ]
    if ends:
        arrows = alt.Chart(alt.Data(values=ends)).mark_point(filled=True, size=110, opacity=1)
        arrows = arrows.encode(x=alt.X("at:Q", scale=x), y=y, shape=alt.Shape("shape:N", scale=None))
        made.append(coloured(arrows, ends))
    if seeds:
        small = alt.Chart(alt.Data(values=seeds)).mark_point(filled=True, size=34, opacity=alt.expr("seeds ? 0.55 : 0"))
        small = small.encode(x=alt.X("at:Q", scale=x), y=y, tooltip=alt.Tooltip("what:N", title=" "))
        made.append(coloured(small, seeds))
    return made, ROW * len(dots)
