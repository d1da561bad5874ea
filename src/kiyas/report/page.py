"""The page: one HTML file that opens offline and can fetch nothing.

Theory of safety. The content security policy allows no network, no plug-in, no eval and only the two scripts
whose digests it names. Texts from models and strangers stand in one JSON data block (`payload`) or pass
jinja2's autoescape. Vega runs with its expression interpreter, since eval is forbidden.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from kiyas import __version__
from kiyas.analyse.findings import Findings, Level
from kiyas.report import charts, methods, sentences, tables
from kiyas.report.payload import payload, script_json
from kiyas.report.words import Words, phrases

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


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def image(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode("utf-8")).decode("ascii")


def page(
    run: Path,
    findings: Findings,
    words: Words,
    made_tables: dict[str, tables.Table],
    made_charts: dict[str, charts.Chart],
    stills: dict[str, str],
) -> str:
    """The whole HTML text. `stills` are the charts' SVG texts by name."""
    library = charts.javascript() if made_charts else ""
    script = asset("page.js")
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src 'none'; base-uri 'none'; "
        f"form-action 'none'; script-src '{_digest(library)}' '{_digest(script)}'"
    )
    data = {
        **payload(run, findings, words),
        "charts": {name: chart.spec for name, chart in made_charts.items()},
        "columns": [_column(words, adapter) for adapter in findings.columns],
        "words": {
            key: phrase for key, phrase in phrases(words.language).items() if key.split(".")[0] in ("grid", "verdict")
        },
    }
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(asset("page.html.j2"))
    return template.render(
        f=findings,
        w=words,
        s=sentences,
        tables=made_tables,
        charts=made_charts,
        stills={name: image(svg) for name, svg in stills.items()},
        conclusion=sentences.conclusion(findings, words),
        warnings=sentences.remarks(findings, words, Level.WARNING, Level.NOTE),
        fine=sentences.remarks(findings, words, Level.OK),
        groups=_groups(findings, words),
        grid=_grid(findings, words),
        letters=LETTERS,
        used=[
            v for v in LETTERS if any((cell.verdict or "missing") == v for row in findings.grid for cell in row.cells)
        ],
        methods=methods.paragraphs(run, findings, words),
        settings=_flat(findings.settings),
        version=__version__,
        policy=policy,
        style=Markup(asset("page.css")),
        library=Markup(library),
        script=Markup(script),
        data=Markup(script_json(data)),
    )


def _column(words: Words, adapter: Any) -> str:
    if adapter.is_base:
        return words("cell.base")
    name = f"{adapter.arm} {adapter.variant}".strip()
    return f"{name} · {words('column.seed').lower()} {adapter.seed} · {words('cell.step', step=adapter.step)}"


def _groups(findings: Findings, words: Words) -> list[dict[str, Any]]:
    """Header of the grid: one group a training."""
    groups: list[dict[str, Any]] = []
    several = {a.arm for a in findings.columns if a.seed != findings.columns[0].seed} if findings.columns else set()
    for i, adapter in enumerate(findings.columns):
        if not groups or groups[-1]["training"] != adapter.training:
            label = words("cell.base") if adapter.is_base else f"{adapter.arm} {adapter.variant}".strip()
            seed = f"{words('column.seed').lower()} {adapter.seed}" if several and not adapter.is_base else ""
            colour = charts.arm_colour(findings, adapter.arm)
            groups.append({"training": adapter.training, "label": label, "seed": seed, "colour": colour, "columns": []})
        groups[-1]["columns"].append({"i": i, "step": "" if adapter.is_base else adapter.step})
    return groups


def _grid(findings: Findings, words: Words) -> list[dict[str, Any]]:
    """Rows of the grid with everything the template prints. `kind` serves the filter."""
    starts = {g["columns"][0]["i"] for g in _groups(findings, words)}
    rows = []
    for row in findings.grid:
        solved = [cell.samples > 0 and cell.right == cell.samples for cell in row.cells]
        kind = "always" if all(solved) else "never" if not any(cell.right for cell in row.cells) else "differ"
        cells = []
        for j, cell in enumerate(row.cells):
            verdict = cell.verdict or "missing"
            mixed = cell.samples > 1 and cell.right > 0
            share = cell.passed / cell.total if cell.total and cell.passed is not None else 0.0
            tests = words("grid.passed", passed=cell.passed, total=cell.total) if cell.total else ""
            said = f"{row.problem}, {_column(words, findings.columns[j])}: {words(f'verdict.{verdict}')}"
            cells.append(
                {
                    "class": "mixed" if mixed and cell.right < cell.samples else verdict,
                    "text": f"{cell.right}/{cell.samples}" if cell.samples > 1 else LETTERS[verdict],
                    "share": round(100 * share) if verdict != "AC" else 0,
                    "label": f"{said}. {tests}" if tests else said,
                    "start": j in starts,
                }
            )
        title = row.title if row.title != row.problem else ""
        rows.append({"id": row.problem, "title": title, "kind": kind, "cells": cells, "solved": sum(solved)})
    return rows


def _flat(settings: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as lines of `a.b` and value."""
    lines: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{key}.")
        elif value not in (None, "", [], {}):
            lines.append((f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return lines
