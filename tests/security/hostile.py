"""What a stranger may write where a name, an id or an error is expected."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from pathlib import Path

STRINGS = (
    "\x1b[2J\x1b]0;mine\x07",
    "\x9b31m\x9d52;c;bWluZQ==\x9c",
    "right\rwrong\b\b\b\b\b",
    "two\nkiyas: all is well",
    "\x00\x0b\x0c\x7f",
    "\u202egpj.exe\u2066\u200f\u061c",
    "\x85\u2028\u2029",
    "\ufffe\uffff\ufff9",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "'=1",
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=2>",
    "--><!-- kiyas:author question -->",
    "[link](javascript:alert(1)) ![i](https://evil.example/i.png)",
    "https://evil.example www.evil.example mailto:a@evil.example",
    "`code` *bold* _under_ ~~gone~~ # head",
    "a | b || c",
    "{{ 7 * 7 }}{% raw %}",
    "{0.__class__} %s %n",
    "[red]rich[/red] [link=https://evil.example]x[/link]",
    "\\input{/etc/passwd} $(touch x) `touch x`",
    "]]>&#60;b&#62;",
)
ALL = " ".join(STRINGS)
ORDERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]"
)


def orders_in(text: str) -> list[str]:
    """The characters in a text that a terminal would follow."""
    return ORDERS.findall(text)


def oddity(kind: str, path: Path) -> Path:
    """Puts a pipe, a device, a loop of links or a socket in a file's place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    else:
        # The path of a socket has 107 characters at most.
        with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    return path
