"""The page: one HTML file that opens offline and can fetch nothing.

Theory of safety. The content security policy allows no network, no plug-in, no eval and only the two scripts
whose digests it names. Texts from models and strangers are in JSON data blocks (`payload`) or pass
jinja2's autoescape. Vega runs with its expression interpreter, since eval is forbidden.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from kiyas.analyse.findings import Findings, Level
from kiyas.judge.version import VERSION
from kiyas.report import charts, methods, sentences, tables
from kiyas.report.language import Language, phrases
from kiyas.report.payload import chunks, script_json
from kiyas.report.quoting import in_html
from kiyas.study.settings import as_text, flat
from kiyas.types import BASE_ARM, AdapterId

MOST_BYTES = 40_000_000
"""The size of one page."""
CHUNKS = "<!-- chunks -->"
STYLES = ("page.css", "grid.css", "print.css")
SCRIPTS = ("page.js", "grid.js", "panel.js")
"""One function holds them, in this order."""
LETTERS = {
    "AC": "A",
    "WA": "W",
    "TLE": "T",
    "MLE": "M",
    "RE": "R",
    "OLE": "O",
    "CE": "C",
    "IE": "!",
    "missing": "?",
}


@functools.cache
def asset(name: str) -> str:
    return (resources.files("kiyas.report") / "assets" / name).read_text(encoding="utf-8")


def render(template: str, **values: Any) -> str:
    """A template of assets/, filled; every value passes autoescape unless it is Markup."""
    loader = jinja2.PackageLoader("kiyas.report", "assets")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, finalize=in_html, trim_blocks=True, lstrip_blocks=True
    )
    style = Markup("".join(map(asset, STYLES)))
    return environment.get_template(template).render(style=style, version=VERSION, **values)


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def image(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode("utf-8")).decode("ascii")


def page(
    run: Path,
    findings: Findings,
    words: Language,
    made_tables: dict[str, tables.Table],
    made_charts: dict[str, charts.Chart],
    library: str,
    suffix: str = "",
    others: list[tuple[str, str, str]] | None = None,
) -> str:
    """The whole HTML text. `library`: the script that draws the charts; "" where they stay still.

    `suffix`: what this language's files have in their names; `others`: code, name and page of other languages.
    """
    script = '"use strict";\n(() => {\n' + "".join(map(asset, SCRIPTS)) + "draw();\n})();"
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src 'none'; base-uri 'none'; "
        f"form-action 'none'; script-src '{_digest(library)}' '{_digest(script)}'"
    )
    grid, groups = _grid(findings), _groups(findings, words)
    data = {
        "rows": grid,
        "letters": {letter: verdict for verdict, letter in LETTERS.items()},
        "charts": {name: chart.spec for name, chart in made_charts.items() if chart.drawing},
        "columns": [_column(words, adapter) for adapter in findings.columns],
        "starts": [group["columns"][0]["i"] for group in groups],
        "partners": [partner(findings, adapter) for adapter in findings.columns],
        "words": {
            key: phrase for key, phrase in phrases(words.language).items() if key.split(".")[0] in ("grid", "verdict")
        },
    }
    html = render(
        "page.html.j2",
        f=findings,
        w=words,
        title=words("page.title", name=findings.name),
        s=sentences,
        tables=made_tables,
        charts=made_charts,
        stills={name: image(chart.drawing.svg) for name, chart in made_charts.items() if chart.drawing},
        conclusion=sentences.conclusion(findings, words),
        warnings=sentences.remarks(findings, words, Level.WARNING, Level.NOTE),
        fine=sentences.remarks(findings, words, Level.OK),
        groups=groups,
        grid=grid,
        letters=LETTERS,
        used=[
            v for v in LETTERS if any((cell.verdict or "missing") == v for row in findings.grid for cell in row.cells)
        ],
        suffix=suffix,
        others=others or [],
        methods=methods.paragraphs(run, findings, words),
        settings=_settings(findings.settings),
        policy=policy,
        library=Markup(library),
        script=Markup(script),
        data=Markup(script_json(data)),
    )
    room = MOST_BYTES - len(html.encode("utf-8", "backslashreplace")) - len(grid) * len(_chunk(len(grid), ""))
    made = chunks(run, findings, words, room)
    # Only the template can hold this comment: texts pass autoescape or script_json.
    return html.replace(CHUNKS, "".join(_chunk(i, text) for i, text in enumerate(made)), 1)


def _chunk(i: int, text: str) -> str:
    return f'<script type="application/json" id="chunk-{i}">"{text}"</script>\n'


def partner(findings: Findings, adapter: AdapterId) -> int | None:
    """The column that `adapter` is compared with unless another is chosen; None if there is no other.

    It is the other arm of the primary contrast, the base for arms outside of it: the checkpoint it was paired with,
    else that of the same seed and learning rate whose step is nearest.
    """
    primary = findings.primary
    pairs = [(pair.a, pair.b) for pair in primary.pairs] if primary else []
    paired = {side for pair in pairs if adapter in pair for side in pair}
    sides = {primary.a: primary.b, primary.b: primary.a} if primary else {}
    against = sides.get(adapter.arm, BASE_ARM)
    others = [(i, other) for i, other in enumerate(findings.columns) if other != adapter]

    def distance(of: tuple[int, AdapterId]) -> tuple[bool, bool, bool, bool, int]:
        other = of[1]
        return (
            other not in paired,
            other.arm != against,
            other.seed != adapter.seed,
            other.variant != adapter.variant,
            abs(other.step - adapter.step),
        )

    return min(others, key=distance)[0] if others else None


def _column(words: Language, adapter: AdapterId) -> str:
    name = sentences.trained(words, adapter)
    if adapter.is_base:
        return name
    return f"{name} · {words('column.seed').lower()} {adapter.seed} · {words('cell.step', step=adapter.step)}"


def _groups(findings: Findings, words: Language) -> list[dict[str, Any]]:
    """Header of the grid: one group a training."""
    groups: list[dict[str, Any]] = []
    several = {a.arm for a in findings.columns if a.seed != findings.columns[0].seed} if findings.columns else set()
    for i, adapter in enumerate(findings.columns):
        if not groups or groups[-1]["training"] != adapter.training:
            label = sentences.trained(words, adapter)
            seed = f"{words('column.seed').lower()} {adapter.seed}" if several and not adapter.is_base else ""
            colour = charts.arm_colour(findings, adapter.arm)
            groups.append({"training": adapter.training, "label": label, "seed": seed, "colour": colour, "columns": []})
        groups[-1]["columns"].append({"i": i, "step": "" if adapter.is_base else adapter.step})
    return groups


def _grid(findings: Findings) -> list[dict[str, Any]]:
    """Rows of the grid as the page's script reads them. `kind` serves the filter.

    `cells` holds one word a checkpoint: letter, tests passed, tests, samples right, samples ("W,3,8,0,1").
    """
    rows = []
    for row in findings.grid:
        solved = [cell.samples > 0 and cell.right == cell.samples for cell in row.cells]
        kind = "always" if all(solved) else "never" if not any(cell.right for cell in row.cells) else "differ"
        cells = []
        for cell in row.cells:
            known = cell.passed is not None and cell.total
            passed, total = (cell.passed, cell.total) if known else ("", "")
            cells.append(f"{LETTERS[cell.verdict or 'missing']},{passed},{total},{cell.right},{cell.samples}")
        title = row.title if row.title != row.problem else ""
        rows.append({"id": row.problem, "title": title, "kind": kind, "cells": " ".join(cells), "solved": sum(solved)})
    return rows


def _settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """What was set, by its full name."""
    return {key: as_text(value) for key, value in flat(settings).items() if value not in (None, "", [])}
