"""The same program for the same problem is run once; its verdict is that of every copy."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable
from typing import Any

from .types import Problem, Program


def short_digest(*parts: bytes) -> bytes:
    """16 bytes that say whether two contents are the same."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.digest()


class Once:
    """What was asked and what came out. A few hundred bytes for each different program.

    Programs are the same if all that their verdict depends on is: the text, the problem with its tests and limits, and
    the `settings` of the judge.
    """

    def __init__(self, problems: Iterable[Problem], settings: dict[str, Any]) -> None:
        self._rows: dict[bytes, bytes | None] = {}
        self._settings = short_digest(json.dumps(settings, sort_keys=True).encode())
        self._problems = {
            problem.id: short_digest(json.dumps(problem.to_row(), sort_keys=True).encode()) for problem in problems
        }
        self.problems = short_digest(*(self._problems[id] for id in sorted(self._problems)))
        """of all problems together"""
        self.reused = 0

    def key(self, program: Program) -> bytes:
        """Of all that the program's verdict depends on."""
        # Where no program was found, the verdict's flags say why.
        why = "" if program.source or program.extraction is None else program.extraction.reason
        texts = (program.source.encode("utf-8", "surrogatepass"), why.encode("utf-8", "surrogatepass"))
        return short_digest(self._settings, self._problems[program.problem_id], *texts)

    def is_new(self, program: Program) -> bool:
        """Whether nobody has asked about this program yet; from now on somebody has."""
        key = self.key(program)
        if key in self._rows:
            return False
        self._rows[key] = None
        return True

    def remember(self, key: bytes, row: dict[str, Any]) -> None:
        """The verdict's own keys of the program's row."""
        self._rows[key] = zlib.compress(json.dumps(row).encode(), 1)

    def recall(self, key: bytes) -> dict[str, Any] | None:
        """What was remembered of the same program; None while its verdict is not known."""
        packed = self._rows.get(key)
        if packed is None:
            return None
        row: dict[str, Any] = json.loads(zlib.decompress(packed))
        return row
