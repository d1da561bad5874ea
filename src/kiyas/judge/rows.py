"""Rows of JSON files, and what a reader takes out of one."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .types import InputError, JudgeError

Row = dict[str, Any]
MOST_SAID = 400
"""characters of a complaint"""
MOST_OF_A_ROW, MOST_OF_A_LIST = 512 << 20, 1024 << 20
"""bytes of a line, also unpacked, and of a file that is one JSON list"""
LEAVE_OUT = "leave this row out"


class BadRowError(JudgeError):
    """What is wrong with a row, in one line whatever is in the row; the caller adds where."""

    def __init__(self, message: str, hint: str = "") -> None:
        line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in message[: MOST_SAID + 1])
        super().__init__(line if len(line) <= MOST_SAID else f"{line[:MOST_SAID]} …", hint)


@contextlib.contextmanager
def located(path: str | Path, line: int) -> Iterator[None]:
    """Adds the place to a BadRowError, which becomes an InputError."""
    try:
        yield
    except BadRowError as error:
        raise InputError(str(path), line, error.args[0], error.hint or "mend this row, or leave it out") from None


def rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(line, row) of a JSONL file, or of a JSON file that holds one list; `.gz` of either."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(str(path), 0, "is a pipe, a device or a socket", "give a regular file")
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MOST_OF_A_ROW + 1), b""), 1):
                if len(line) > MOST_OF_A_ROW:
                    raise InputError(str(path), number, f"this line has more than {MOST_OF_A_ROW >> 20} MB", LEAVE_OUT)
                if not line.strip():
                    continue
                if number == 1 and line.lstrip(b"\xef\xbb\xbf \t")[:1] == b"[":
                    yield from _list_rows(path, line + _rest(path, file))
                    return
                try:
                    row = _parsed(path, number, line)
                except InputError:
                    if number > 1 or line.strip() != b"{":
                        raise
                    row = _parsed(path, 0, line + _rest(path, file))  # one object, over many lines
                if not isinstance(row, dict):
                    what = f"a JSON object is wanted, not {type(row).__name__}"
                    raise InputError(str(path), number, what, "give one object on each line, or a list of them")
                yield number, row
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        hint = (
            "check the name" if isinstance(error, FileNotFoundError) else "give a file of JSON lines or of a JSON list"
        )
        raise InputError(str(path), 0, f"cannot be read: {reason}", hint) from None


def _rest(path: Path, file: BinaryIO | gzip.GzipFile) -> bytes:
    """What is not in lines is read whole."""
    rest = file.read(MOST_OF_A_LIST + 1)
    if len(rest) > MOST_OF_A_LIST:
        reason = f"more than {MOST_OF_A_LIST >> 20} MB that are not JSON lines"
        raise InputError(str(path), 0, reason, "give one JSON object on each line")
    return rest


def _list_rows(path: Path, content: bytes) -> Iterator[tuple[int, Row]]:
    for number, row in enumerate(_parsed(path, 0, content), 1):
        if not isinstance(row, dict):
            raise InputError(str(path), 0, f"entry {number} of the list is not a JSON object", "leave it out")
        yield number, row


def _parsed(path: Path, line: int, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        place = line or getattr(error, "lineno", 0)
        raise InputError(str(path), place, f"not JSON: {why(error)}", "mend this line, or leave it out") from None


def why(error: Exception) -> str:
    """Why some JSON cannot be read, in a line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if "limit" in str(error) and "digits" in str(error):
        return "it has a number of more than 4300 digits"
    return f"{error!s:.200}"


def take(row: Row, key: str, kinds: type | tuple[type, ...], default: Any = ...) -> Any:
    """The value under `key`, which must be of one of `kinds`; `default` where it is absent or null.

    Raises BadRowError for another type, and for an absent value without a default.
    """
    value = row.get(key)
    if value is None:
        if default is ...:
            raise BadRowError(f"key {key!r} is missing")
        return default
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        names = kinds.__name__ if isinstance(kinds, type) else " or ".join(kind.__name__ for kind in kinds)
        raise BadRowError(f"{key!r} is a {type(value).__name__}, not a {names}")
    return value


def take_json(row: Row, key: str, kinds: type | tuple[type, ...], default: Any = ...) -> Any:
    """As `take`, of a value that may also be given as JSON text."""
    value = row.get(key)
    if isinstance(value, str):
        try:
            value = json.loads(value or "null")
        except (ValueError, RecursionError) as error:
            raise BadRowError(f"{key!r} is not JSON: {why(error)}") from None
    return take({key: value}, key, kinds, default)


def check_depth(row: Row, most: int = 100) -> None:
    """Raises BadRowError for a row that could be read, but might be too deep to be written again."""
    level: list[Any] = [row]
    for _ in range(most):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise BadRowError(f"it is nested more than {most} levels deep", "leave such keys out")


def take_texts(row: Row, key: str, default: Any = ...) -> list[str]:
    """A list of strings."""
    texts = take(row, key, list, default)
    if not all(isinstance(text, str) for text in texts):
        raise BadRowError(f"{key!r} is not a list of strings")
    return list(texts)


def take_tests(row: Row, key: str) -> list[Row]:
    """A list of objects with the strings `input` and `output`; [] where it is absent."""
    tests = take(row, key, list, [])
    for number, test in enumerate(tests, 1):
        if not isinstance(test, dict) or not all(isinstance(test.get(part), str) for part in ("input", "output")):
            raise BadRowError(f"test {number} of {key!r} is not an object with the strings 'input' and 'output'")
    return list(tests)
