"""The charts' engine in a process of its own, so that what ends it does not end a run. `drawing.py` starts this file.

It reads a line of JSON for each thing to draw and answers with a line: {"svg", "png", "pdf"} (the last two in base64),
{"javascript"}, or {"error"}. A chart that takes longer than the time limit ends the process.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import sys
from typing import Any

import vl_convert


def answer(asked: dict[str, Any]) -> dict[str, str]:
    """One chart as SVG, PNG and PDF, or the JavaScript that draws charts in a page."""
    if "spec" not in asked:
        return {"javascript": vl_convert.javascript_bundle(asked["javascript"], vl_version=asked["version"])}
    svg = vl_convert.vegalite_to_svg(asked["spec"], vl_version=asked["version"])
    if "only" in asked:
        return {"svg": svg}
    pictures = {"png": vl_convert.svg_to_png(svg, scale=2), "pdf": vl_convert.svg_to_pdf(svg)}
    return {"svg": svg, **{kind: base64.b64encode(bytes(data)).decode() for kind, data in pictures.items()}}


def main() -> None:
    """Until there is nothing more to read: the other side has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the engine may print
    for line in sys.stdin:
        asked = json.loads(line)
        signal.alarm(asked["seconds"])
        try:
            said = answer(asked)
        except Exception as error:  # noqa: BLE001 (whatever the engine does not draw)
            said = {"error": f"{type(error).__name__}: {error}"}
        signal.alarm(0)
        answers.write(json.dumps(said) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
