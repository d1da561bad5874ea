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
from kiyas.report import charts, grid, methods, sentences, tables
from kiyas.report.language import Language
from kiyas.report.payload import chunks, script_json
from kiyas.report.quoting import in_html
from kiyas.study.settings import as_text, flat

MOST_BYTES = 25_000_000
"""The size of one page."""
CHUNKS = "<!-- chunks -->"
STYLES = ("page.css", "grid.css", "print.css")
SCRIPTS = ("page.js", "grid.js", "panel.js")
"""One function holds them, in this order."""


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
) -> str:
    """The whole HTML text. `library`: the script that draws the charts; "" where they stay still."""
    script = '"use strict";\n(() => {\n' + "".join(map(asset, SCRIPTS)) + "draw();\n})();"
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src 'none'; base-uri 'none'; "
        f"form-action 'none'; script-src '{_digest(library)}' '{_digest(script)}'"
    )
    shown = grid.Grid.of(findings, words)
    data = {
        **shown.data,
        "charts": {name: chart.spec for name, chart in made_charts.items() if chart.drawing},
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
        problems=shown,
        letters=grid.LETTERS,
        methods=methods.paragraphs(run, findings, words),
        settings=_settings(findings.settings),
        policy=policy,
        library=Markup(library),
        script=Markup(script),
        data=Markup(script_json(data)),
    )
    rows = len(findings.grid)
    room = MOST_BYTES - len(html.encode("utf-8", "backslashreplace")) - rows * len(_chunk(rows, ""))
    made = chunks(run, findings, shown.chosen, room)
    # Only the template can hold this comment: texts pass autoescape or script_json.
    return html.replace(CHUNKS, "".join(_chunk(i, text) for i, text in enumerate(made)), 1)


def _chunk(i: int, text: str) -> str:
    return f'<script type="application/json" id="chunk-{i}">"{text}"</script>\n'


def _settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """What was set, by its full name."""
    return {key: as_text(value) for key, value in flat(settings).items() if value not in (None, "", [])}
