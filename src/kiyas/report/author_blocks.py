"""report.md and its author: what is written between the markers survives when the file is made again.

    <!-- kiyas:author training -->
    the author's own text, byte for byte
    <!-- kiyas:end -->

Theory. A marker is a whole line. Inside a block, lines of a Markdown code fence are never markers. The last line of
the file holds the digest of every line that is ours, so that whatever was changed outside the blocks, a damaged marker
included, is found: the caller then keeps the old file. Not guaranteed: text outside the blocks.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import re
from dataclasses import dataclass

AUTHOR = re.compile(rb"<!-- kiyas:author (\S+) -->")
END = b"<!-- kiyas:end -->"
MADE = re.compile(rb"<!-- kiyas:made ([0-9a-f]{64}) -->")
FENCE = re.compile(rb" {0,3}(`{3,}|~{3,})(.*)")
EMPTY = b"\n"


@dataclass(frozen=True)
class _Read:
    """`blocks`: name and text, in order; `sound`: every other line is as it was made."""

    blocks: tuple[tuple[bytes, bytes], ...]
    digest: str
    sound: bool


def block(name: str) -> str:
    """An empty block. The name may hold no blank."""
    return f"<!-- kiyas:author {name} -->\n{END.decode()}"


def merge(made: str, old: bytes, gone: str) -> tuple[bytes, bool]:
    """The new file: `made`, with empty blocks, and the author's texts of `old` in them.

    Blocks that `made` no longer has are put at the end, under the text `gone`. False: `old` holds something that is
    neither ours nor in a block, or a broken block, so it must be kept.
    """
    # A fence that the author never closed would hide every marker after it: then fences count for nothing.
    readings = [_read(old, fences=fences) for fences in (True, False)] if old else []
    found = next((each for each in readings if each.sound), readings[0] if readings else None)
    kept = [(name, body) for name, body in found.blocks if body.strip()] if found else []
    text = made.encode("utf-8", "backslashreplace")
    homeless = [name for name, _ in kept]
    for name in (each[0] for each in _read(text, fences=False).blocks):
        if name in homeless:
            homeless.remove(name)
    if homeless:
        text += gone.encode("utf-8") + b"\n".join(block(name.decode()).encode() + b"\n" for name in homeless)
    lines = []
    for line in io.BytesIO(text):
        lines.append(line)
        if start := AUTHOR.fullmatch(line.rstrip()):
            mine = next((each for each in kept if each[0] == start[1]), None)
            if mine is not None:
                kept.remove(mine)
            lines.append(mine[1] if mine else EMPTY)
    stamp = f"\n<!-- kiyas:made {_read(text, fences=False).digest} -->\n"
    return b"".join(lines) + stamp.encode(), found is None or found.sound


def _read(text: bytes, *, fences: bool) -> _Read:
    ours: list[bytes] = []
    blocks: list[tuple[bytes, bytes]] = []
    name, body, fence, stamp = None, b"", b"", ""
    for line in io.BytesIO(text.removeprefix(codecs.BOM_UTF8)):
        bare = b"" if fence else line.rstrip()
        if start := AUTHOR.fullmatch(bare):
            name, body = start[1], b""
            ours.append(bare)
        elif name is not None and bare == END:
            blocks.append((name, body))
            name = None
            ours.append(bare)
        elif name is not None:
            body += line
            fence = _fence(fence, line.rstrip()) if fences else b""
        elif made := MADE.fullmatch(bare):
            stamp = made[1].decode()
        elif bare:
            ours.append(bare)
    digest = hashlib.sha256(b"\n".join(ours)).hexdigest()
    return _Read(tuple(blocks), digest, digest == stamp)


def _fence(fence: bytes, line: bytes) -> bytes:
    """The code fence that is open after a line; CommonMark 0.31, section 4.5."""
    match = FENCE.fullmatch(line)
    if match is None:
        return fence
    run, rest = match.groups()
    if not fence:
        return b"" if run.startswith(b"`") and b"`" in rest else run
    return b"" if run.startswith(fence) and not rest.strip() else fence
