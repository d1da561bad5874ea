"""Whole-or-nothing writes, and JSONL that survives a kill.

JSONL files are only ever appended to; a torn last line (a kill in mid-write) is cut off and its row is made again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from kiyas.types import KiyasError

_ODD = (errno.EIO, errno.ENAMETOOLONG, errno.ELOOP)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full or unwritable disk into a message; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise KiyasError(
                f"the disk is full: could not write {path}",
                "free some space and run the same command again; finished work is kept",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, *_ODD):
            raise KiyasError(f"cannot write {path}: {error.strerror}") from error
        raise


def atomic_text(path: Path, text: str) -> None:
    """Writes a whole text file or none: a reader never sees half of it."""
    atomic_bytes(path, _utf8(text))


def _utf8(text: str) -> bytes:
    # Half a surrogate pair, which a model's text may hold, becomes JSON's own escape.
    return text.encode("utf-8", "backslashreplace")


def atomic_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file or none."""
    with atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write piece by piece; it appears under its name when the block ends, or not at all."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def refuse_not_a_file(path: Path) -> None:
    """Raises KiyasError for a folder, a pipe, a device or a socket, which may have no end, in place of a file.

    What a link leads to counts. A path that does not exist is left to whoever opens it.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        what = next((name for name, is_one in _NOT_FILES.items() if is_one(mode)), "not a file")
        raise KiyasError(f"cannot read {path}: it is {what}", "give a regular file")


_NOT_FILES = {
    "a folder": stat.S_ISDIR,
    "a pipe": stat.S_ISFIFO,
    "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
    "a socket": stat.S_ISSOCK,
}


def write_json(path: Path, value: Any) -> None:
    """Writes one JSON document, whole or not at all."""
    atomic_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes a whole JSONL file, whole or not at all."""
    with atomic_file(path) as file:
        for row in rows:
            file.write(_line(row))


def read_json(path: Path) -> Any:
    """Raises KiyasError with the file's name when it is absent or not JSON."""
    refuse_not_a_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KiyasError(f"no such file: {path}") from None
    except OSError as error:
        raise KiyasError(f"{path} cannot be read: {error.strerror}", "it must be a file") from error
    except (ValueError, RecursionError) as error:
        raise KiyasError(f"{path} is not valid JSON: {error}") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All rows of a file that Kıyas wrote. A torn last line is left out; a broken line elsewhere is an error."""
    return list(each_row(path))


def each_row(path: Path) -> Iterator[dict[str, Any]]:
    """The same, one at a time: problems may have tests of many megabytes."""
    with path.open("rb") as file:
        yield from json_objects(path, (line for line in file if line.endswith(b"\n")))


def json_objects(path: Path, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """One JSON object a line, blank lines aside. Raises KiyasError with the file's name and the line's number."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except UnicodeDecodeError as error:
            raise KiyasError(f"{path}, line {number}: not UTF-8 text ({error})") from error
        except (ValueError, RecursionError) as error:
            raise KiyasError(f"{path}, line {number}: not valid JSON ({error})") from error
        if not isinstance(row, dict):
            raise KiyasError(f"{path}, line {number}: expected a JSON object")
        yield row


def _line(row: dict[str, Any]) -> bytes:
    return _utf8(json.dumps(row, ensure_ascii=False, separators=(", ", ": ")) + "\n")


class JsonlWriter:
    """Appends rows one whole line at a time; opening cuts a torn last line off first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab+")
            self._repair()

    def _repair(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        position = size
        while position > 0:
            start = max(0, position - 65536)
            self._file.seek(start)
            newline = self._file.read(position - start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position != size:
            self._file.truncate(position)
        self._file.seek(0, os.SEEK_END)

    def write(self, *rows: dict[str, Any]) -> None:
        with disk_errors(self.path):
            self._file.write(b"".join(_line(row) for row in rows))
            self._file.flush()

    def close(self) -> None:
        with disk_errors(self.path):
            self._file.close()

    def __enter__(self) -> JsonlWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Digest of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
