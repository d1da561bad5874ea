"""Texts in CSV files: a spreadsheet must not take one for a formula, and we read back what was written."""

from __future__ import annotations

import re

from kiyas.judge.terminal import printable

FORMULA = re.compile("'*[=+@\t\r\n-]")
"""how a text begins that a spreadsheet would compute; apostrophes count, so that ours can be taken off again"""


def text_in_cell(text: str) -> str:
    """With an apostrophe in front where it would be a formula, and without characters that command a terminal."""
    clean = printable(text)
    return f"'{clean}" if FORMULA.match(clean) else clean


def text_of_cell(cell: str) -> str:
    """What `text_in_cell` was given."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
