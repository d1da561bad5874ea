"""Texts of strangers in the report's files: one function for each kind of file, used where the file is written.

CSV has its own (`runfolder/spreadsheet.py`), and so have a page's data blocks (`payload.script_json`).
"""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

from kiyas.judge.terminal import one_line, printable
from kiyas.report import citations

ESCAPED = str.maketrans({**{character: f"\\{character}" for character in "\\`*_[]>|#~^${}"}, "<": "&lt;", "&": "&amp;"})
"""what is markup on GitHub, in pandoc, or in both"""
LINK = re.compile(r"(?i)\b(www|(?:https?|ftp)(?=://)|mailto(?=:))([.:])")
"""what GitHub's Markdown makes a link without being asked"""
INSIDE = re.compile(r"(?<=[^\W_])\\_(?=[^\W_])")
"""an underscore within a word, which is never markup"""
CITES = re.compile(r"(?<![^\W_])@")
"""what pandoc would look up in the bibliography"""
BEGINS = re.compile(r"^(\(?(?:\d{1,9}|[A-Za-z]|[ivxlcdm]+|[IVXLCDM]+)(?=[.)]\s)|[Tt]able(?=:)|(?=[-+:=](\s|$)))")
"""what would begin a list, a definition or a caption, up to the character that is to be escaped"""
LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "{}$&#%_"},
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "`": r"\textasciigrave{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": "$|$",
        "[": "{[}",  # after the end of a row it would be an argument
        "*": "{*}",
        "\u00a0": "~",
        "−": "$-$",
        "×": r"$\times$",
        "·": r"$\cdot$",
        "…": r"\ldots{}",
        "●": r"$\bullet$",
        "✓": r"$\checkmark$",
        "↷": r"$\curvearrowright$",
    }
)


def markdown(text: str) -> str:
    """One line of text for a paragraph, a heading or a cell of a table, on GitHub and in pandoc."""
    parts = citations.MARKED.split(text)
    return "".join(citations.for_paper(part) if i % 2 else _plain(part) for i, part in enumerate(parts))


def _plain(text: str) -> str:
    said = LINK.sub(r"\1\\\2", one_line(text).translate(ESCAPED))
    said = CITES.sub(r"\\@", INSIDE.sub("_", said))
    said = said.replace("--", "-\\-").replace("...", "..\\.")  # pandoc makes them a dash and one character
    return BEGINS.sub(r"\1\\", said)


def latex(text: str) -> str:
    """One line of text for a cell of a LaTeX table."""
    return re.sub(r"-(?=-)", "-{}", one_line(text).translate(LATEX))


def in_html(value: Any) -> Any:
    """What jinja2 puts into a page before it escapes it: nothing turns the direction of writing about."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
