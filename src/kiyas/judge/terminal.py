"""What may reach a terminal: text, and no character that gives it an order.

Names, error texts and answers come from strangers. `Printable` lies around the two standard streams of a command, so
that whatever is printed passes here; what moves the cursor on purpose writes to the stream below (`raw`).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

TURNS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""the direction of writing"""
ORDERS = re.compile(
    f"[\x00-\x08\x0b-\x1f\x7f-\x9f{TURNS}"  # escape sequences, carriage return, backspace, bell, C1
    "\u2028\u2029\ufff9-\ufffb\ufffe\uffff"  # lines, annotations, no characters at all
    "\ud800-\udfff]"  # half of a pair: no stream can write it
)


def printable(text: str) -> str:
    """The text with � for every such character; line ends and tabs stay."""
    return ORDERS.sub("\ufffd", text)


def straight(text: str) -> str:
    """A program's text as it is read by a machine: nothing in it shows its characters in another order."""
    return re.sub(f"[{TURNS}]", "\ufffd", text)


def one_line(text: str) -> str:
    """The same on one line: a name with a line end in it must not look like a line of ours."""
    return printable(" ".join(text.split("\n")).replace("\t", " "))


def many(number: int, noun: str) -> str:
    """`1 problem`, `2 problems`, `1,000 problems`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Printable:
    """A text stream that writes printable text only. Everything else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.raw = stream

    def write(self, text: str) -> int:
        self.raw.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def raw(stream: TextIO) -> TextIO:
    """The stream below, for bars and colours of our own: whoever writes there cleans the texts of others first."""
    return stream.raw if isinstance(stream, Printable) else stream


def moves(stream: object) -> bool:
    """Whether a bar may move and colours may be there: a terminal that can, and no file or log."""
    return bool(getattr(stream, "isatty", bool)()) and os.getenv("TERM", "") not in ("dumb", "unknown")


@contextlib.contextmanager
def only_printable() -> Iterator[None]:
    """Inside, stdout and stderr write printable text only."""
    before = sys.stdout, sys.stderr
    # A closed stream is None.
    sys.stdout, sys.stderr = (stream and cast(TextIO, Printable(raw(stream))) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Inside, the streams are the raw ones again: for the progress bars of libraries."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(raw, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
