"""The same program for the same problem is run once; its verdict is that of every copy."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

from .types import Program


class Once:
    """What was asked and what came out. A few hundred bytes for each different program."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes | None] = {}
        self.reused = 0

    def is_new(self, program: Program) -> bool:
        """Whether nobody has asked about this program yet; from now on somebody has."""
        key = _key(program)
        if key in self._rows:
            return False
        self._rows[key] = None
        return True

    def remember(self, program: Program, row: dict[str, Any]) -> None:
        """The verdict's own keys of the program's row."""
        self._rows[_key(program)] = zlib.compress(json.dumps(row).encode(), 1)

    def recall(self, program: Program) -> dict[str, Any] | None:
        """What was remembered of the same program; None while its verdict is not known."""
        packed = self._rows.get(_key(program))
        if packed is None:
            return None
        self.reused += 1
        row: dict[str, Any] = json.loads(zlib.decompress(packed))
        return row


def _key(program: Program) -> bytes:
    # Where no program was found, the verdict's flags say why.
    why = "" if program.source or program.extraction is None else program.extraction.reason
    text = "\0".join((program.problem_id, program.source, why))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
