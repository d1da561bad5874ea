"""Texts of strangers in the report's files: one function for each kind of file, used where the file is written.

CSV has its own (`runfolder/spreadsheet.py`), and so have a page's data blocks (`payload.script_json`).
"""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

from kiyas.judge.terminal import one_line, printable

ESCAPED = str.maketrans({**{character: f"\\{character}" for character in "\\`*_[]>|#~"}, "<": "&lt;", "&": "&amp;"})
LINK = re.compile(r"(?i)\b(www|(?:https?|ftp)(?=://)|mailto(?=:))([.:])")
"""what GitHub's Markdown makes a link without being asked"""


def markdown(text: str) -> str:
    """One line of text for a paragraph, a heading or a cell of a table."""
    return LINK.sub(r"\1\\\2", one_line(text).translate(ESCAPED))


def in_html(value: Any) -> Any:
    """What jinja2 puts into a page before it escapes it: nothing turns the direction of writing about."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
