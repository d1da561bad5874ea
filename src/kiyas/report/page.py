"""The page: one HTML file that opens offline and can fetch nothing.

Theory of safety. The content security policy allows no network, no plug-in, no eval and only the two scripts
whose digests it names. Texts from models and strangers are in JSON data blocks (`payload`) or pass
jinja2's autoescape. Vega runs with its expression interpreter, since eval is forbidden.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from kiyas.analyse.findings import Curve, Findings, Level
from kiyas.judge.version import VERSION
from kiyas.report import charts, first_screen, grid, sentences, tables
from kiyas.report.language import Language
from kiyas.report.payload import chunks, script_json
from kiyas.report.quoting import in_html
from kiyas.report.terms import Terms
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import as_text, flat

MOST_BYTES = 25_000_000
"""The size of one page."""
CHUNKS = "<!-- chunks -->"
STYLES = ("page.css", "terms.css", "grid.css", "print.css")
SCRIPTS = ("page.js", "grid.js", "panel.js")
"""One function holds them, in this order. The first draws charts and switches themes; it is enough for other pages."""


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


def document(
    template: str,
    words: Language,
    made_charts: Mapping[str, charts.Chart],
    library: str,
    *,
    scripts: Sequence[str] = SCRIPTS[:1],
    data: Mapping[str, Any] | None = None,
    names: Collection[str] = (),
    **values: Any,
) -> str:
    """A page with charts. `library`: the script that draws them, or ""; `data`: what the page's own scripts read.

    `names`: of arms, which are no words of ours.
    """
    script = '"use strict";\n(() => {\n' + "".join(map(asset, scripts)) + "draw();\n})();"
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src 'none'; base-uri 'none'; "
        f"form-action 'none'; script-src '{_digest(library)}' '{_digest(script)}'"
    )
    drawings = {name: chart.drawing for name, chart in made_charts.items() if chart.drawing}
    script = script if scripts else ""
    return render(
        template,
        w=words,
        terms=Terms(words, names),
        charts=made_charts,
        stills={name: image(drawing.svg) for name, drawing in drawings.items()},
        policy=policy,
        library=Markup(library),
        script=Markup(script),
        data=Markup(script_json({"charts": {name: made_charts[name].spec for name in drawings}, **(data or {})})),
        **values,
    )


def page(
    run: Path,
    findings: Findings,
    words: Language,
    made_tables: dict[str, tables.Table],
    made_charts: dict[str, charts.Chart],
    told: Sequence[str],
    library: str,
    suffix: str = "",
    others: list[tuple[str, str, str]] | None = None,
) -> str:
    """The whole HTML text.

    `told`: the methods' paragraphs; `suffix`: what this language's files have in their names; `others`: code, name and
    page of other languages.
    """
    shown = grid.Grid.of(findings, words)
    html = document(
        "page.html.j2",
        words,
        made_charts,
        library,
        scripts=SCRIPTS,
        data=shown.data,
        **first(run, findings, words),
        figures="figures/",
        links=_links(findings, words, made_tables),
        losses=_losses(findings, made_charts),
        colours={arm: charts.arm_colour(findings, arm) for arm in findings.arms},
        s=sentences,
        tables=made_tables,
        problems=shown,
        letters=grid.LETTERS,
        suffix=suffix,
        others=others or [],
        methods=told,
        settings=_settings(findings.settings),
    )
    rows = len(findings.grid)
    room = MOST_BYTES - len(html.encode("utf-8", "backslashreplace")) - rows * len(_chunk(rows, ""))
    made = chunks(run, findings, shown.chosen, room)
    # Only the template can hold this comment: texts pass autoescape or script_json.
    return html.replace(CHUNKS, "".join(_chunk(i, text) for i, text in enumerate(made)), 1)


def first(run: Path, findings: Findings, words: Language) -> dict[str, Any]:
    """What the first screen shows of a run, but for its charts."""
    return {
        "f": findings,
        "names": findings.arms,
        "title": words("page.title", name=findings.name),
        "seeds": any(len(found.adapters) > 1 for found in findings.results)
        or len({c.training.seed for c in findings.curves}) > 1,
        "facts": first_screen.facts(RunDir(run), findings, words),
        "question": sentences.question(findings.wanted, words),
        "against_base": sentences.against_base(findings, words),
        "conclusion": sentences.conclusion(findings, words),
        "warnings": [
            (each.level, said) for each, said in sentences.remarks(findings, words, Level.WARNING, Level.NOTE)
        ],
        "fine": sentences.remarks(findings, words, Level.OK),
    }


def _links(findings: Findings, words: Language, made_tables: Mapping[str, tables.Table]) -> list[tuple[str, str]]:
    """The sections that have something to show, and their names."""
    filled = {"conclusion", "method"} | {table.place.section for table in made_tables.values() if table.shown}
    filled |= {"loss"} if findings.curves else set()
    filled |= {"problems"} if findings.grid and findings.columns else set()
    names = {
        "conclusion": words("nav.conclusion"),
        "data": words("nav.data"),
        "results": words("nav.results"),
        "loss": words("nav.loss"),
        "pass": findings.metric,
        "problems": words("nav.grid"),
        "stability": words("nav.stability"),
        "behaviour": words("nav.behaviour"),
        "method": words("nav.method"),
    }
    return [(section, name) for section, name in names.items() if section in filled]


def _losses(findings: Findings, made_charts: Mapping[str, charts.Chart]) -> list[tuple[str, str, list[Curve]]]:
    """Arm, figure and trainings of each arm that has a loss; "" where a single point makes no figure."""
    figure = {chart.arm: name for name, chart in made_charts.items() if chart.arm is not None}
    curves = {arm: [curve for curve in findings.curves if curve.training.arm == arm] for arm in findings.arms}
    return [(arm, figure.get(arm, ""), found) for arm, found in curves.items() if found]


def _chunk(i: int, text: str) -> str:
    return f'<script type="application/json" id="chunk-{i}">"{text}"</script>\n'


def _settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """What was set, by its full name."""
    return {key: as_text(value) for key, value in flat(settings).items() if value not in (None, "", [])}
