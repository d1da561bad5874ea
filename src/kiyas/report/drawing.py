"""Charts → SVG, PNG and PDF, by an engine that may crash without harm: a chart that it cannot draw is left out."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import altair as alt

from kiyas.report.charts import Chart, Drawing
from kiyas.work.progress import tell

ENGINE = Path(__file__).with_name("engine.py")
SECONDS = 120
"""for one chart; usually it takes less than one"""
VERSION = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


class Engine:
    """One process for all charts of a report; after a crash the next chart has a new one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, **asked: Any) -> dict[str, str]:
        """Its answer; "error" where it has none."""
        if self._process is None:
            # -P: it imports nothing from the working folder.
            command = [sys.executable, "-P", str(ENGINE)]
            pipe = subprocess.PIPE
            try:
                self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
            except OSError as error:
                return {"error": f"the engine cannot be started: {error.strerror}"}
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        line = b""
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps({**asked, "version": VERSION, "seconds": SECONDS}).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        try:
            answer: dict[str, str] = json.loads(line)
        except ValueError:
            self.close()
            code = process.returncode
            return {"error": f"the engine ended by {signal.Signals(-code).name}" if code < 0 else "the engine ended"}
        return answer

    def close(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            assert process.stdin is not None and process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    started = Engine()
    try:
        yield started
    finally:
        started.close()


def drawn(charts: Mapping[str, Chart], engine: Engine) -> dict[str, Chart]:
    """The same charts with their drawings; one that cannot be drawn has none, and the terminal says so."""
    made = {}
    for name, chart in charts.items():
        answer = engine.ask(spec=chart.spec)
        if "error" in answer:
            tell(f"the figure {name} could not be drawn ({answer['error']}); the report is written without it")
            made[name] = chart
            continue
        png, pdf = (base64.b64decode(answer[kind]) for kind in ("png", "pdf"))
        made[name] = replace(chart, drawing=Drawing(answer["svg"], png, pdf))
    return made


_library: list[str] = []


def javascript(engine: Engine) -> str:
    """Vega, Vega-Lite and vega-embed in one script, offline; about 0.9 MB. Defines `kiyasEmbed`; or ""."""
    if not _library:
        answer = engine.ask(javascript="window.kiyasEmbed = vegaEmbed;")
        if "error" in answer:
            tell(f"the page's live charts could not be made ({answer['error']}); it shows still ones")
            return ""
        # Nothing in the bundle may end the script element that holds it.
        _library.append(answer["javascript"].replace("</script", "<\\/script").replace("<!--", "<\\!--"))
    return _library[0]
