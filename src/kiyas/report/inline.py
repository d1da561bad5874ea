"""The report's first screen for the output of a notebook: the same template, in a frame of its own.

In a frame neither the page's style reaches the notebook nor the notebook's the page. It has no script.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from kiyas.analyse.findings import Findings
from kiyas.pooling import Pooled
from kiyas.report import charts, drawing, page, pooled
from kiyas.report.language import Language

HEIGHT = 640
"""pixels; the reader may pull the frame to another height"""


def of_run(run: Path, findings: Findings, language: str) -> str:
    """The first screen of a run, in the language of its report."""
    words = Language(language)
    made = {name: chart for name, chart in charts.charts(findings, words).items() if name in ("rates", "difference")}
    return _framed("section_conclusion.html.j2", words, made, page.first(run, findings, words))


def of_pooled(found: Pooled, language: str) -> str:
    """The first screen of pooled replications."""
    words = Language(language)
    values = pooled.first(found, words, pooled.rows(found, words))
    return _framed("section_pooled.html.j2", words, {"forest": pooled.forest(found, words)}, values)


def _framed(screen: str, words: Language, made: dict[str, charts.Chart], values: dict[str, Any]) -> str:
    with drawing.engine() as engine:
        drawn = drawing.drawn(made, engine)
    values = {**values, "seeds": False}  # its switch is a script's
    text = page.document("inline.html.j2", words, drawn, "", scripts=(), first_screen=screen, **values)
    return (
        f'<iframe srcdoc="{html.escape(text)}" title="{html.escape(str(values["title"]))}" sandbox '
        f'style="width:100%;height:{HEIGHT}px;border:0;resize:vertical"></iframe>'
    )
