"""Texts of training data outside of memory: each once, in a temporary file that has no name.

A study's rows are many and their texts are long. Rows in memory hold numbers of texts; equal texts have equal numbers.
The file is gone when the process ends, however it ends.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from array import array
from pathlib import Path

from kiyas.runfolder.files import disk_errors
from kiyas.types import Example

WRITTEN = 1 << 20
"""Bytes that are written at once."""


class Texts:
    """Numbered as they come, equal ones alike. Equal: by a digest of 128 bits."""

    def __init__(self) -> None:
        self._path = Path(tempfile.gettempdir()) / "texts of the training data"
        with disk_errors(self._path):
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (open as long as this is)
        self._ends = array("Q", [0])
        self._known: dict[bytes, int] = {}
        self._waiting: list[bytes] = []
        self._written = 0

    def __len__(self) -> int:
        return len(self._ends) - 1

    def number(self, text: str) -> int:
        """The text's number, a new one where it is new. It must be encodable."""
        data = text.encode()
        key = hashlib.blake2b(data, digest_size=16).digest()
        number = self._known.setdefault(key, len(self))
        if number == len(self):
            self._waiting.append(data)
            self._ends.append(self._ends[-1] + len(data))
            if self._ends[-1] - self._written > WRITTEN:
                self._write()
        return number

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def _write(self) -> None:
        data = memoryview(b"".join(self._waiting))
        self._waiting.clear()
        with disk_errors(self._path):
            while data:
                data = data[self._file.write(data) or 0 :]
        self._written = self._ends[-1]

    def __getitem__(self, number: int) -> str:
        start, end = self._ends[number], self._ends[number + 1]
        if end > self._written:
            self._write()
        return os.pread(self._file.fileno(), end - start, start).decode()


class StoredExample(Example):
    """An example whose texts are read when they are asked for. Its keys are their numbers."""

    __slots__ = ("_texts", "completion_key", "group_key", "prompt_key")
    _texts: Texts
    prompt_key: int
    completion_key: int
    group_key: int

    def __init__(
        self, texts: Texts, id: str, prompt: int, completion: int, group: int, split: str, draw: int = 0
    ) -> None:
        put = object.__setattr__  # frozen
        put(self, "_texts", texts)
        put(self, "id", id)
        put(self, "prompt_key", prompt)
        put(self, "completion_key", completion)
        put(self, "group_key", group)
        put(self, "split", split)
        put(self, "draw", draw)

    @property
    def prompt(self) -> str:
        return self._texts[self.prompt_key]

    @property
    def completion(self) -> str:
        return self._texts[self.completion_key]

    @property
    def group(self) -> str:
        return self._texts[self.group_key]

    def moved(self, split: str | None = None, draw: int | None = None) -> StoredExample:
        return StoredExample(
            self._texts,
            self.id,
            self.prompt_key,
            self.completion_key,
            self.group_key,
            self.split if split is None else split,
            self.draw if draw is None else draw,
        )

    def _plain(self) -> Example:
        return Example(self.id, self.prompt, self.completion, self.group, self.split, self.draw)

    def __eq__(self, other: object) -> bool:
        other = other._plain() if isinstance(other, StoredExample) else other
        return self._plain() == other

    def __hash__(self) -> int:
        return hash(self._plain())

    def __repr__(self) -> str:
        return repr(self._plain())
