"""Plain text for the terminal: printed into memory first, free of control characters and of markup."""

from __future__ import annotations

import io

from rich.console import Console

from kiyas.judge.terminal import one_line as safe

__all__ = ["plain_console", "printed", "safe"]


def plain_console(width: int, color: bool) -> Console:
    """A console that prints into memory what it is given, and nothing that could be markup."""
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )


def printed(console: Console) -> str:
    """What was printed into such a console, without blanks at the ends of lines."""
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"
