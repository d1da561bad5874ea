"""Whole-or-nothing writes, JSONL that survives a kill, and seals: digests by which a later change is noticed.

A JSON document of a run folder carries the digest of the rest of itself under `sha256`. A JSONL file that grows has a
second file beside it, `.NAME.seal`: after every write, the length so far and the digest of so many bytes. What no
entry of the seal confirms (a torn row, an edit, blocks that a power cut took) is cut off when the file is opened
again, and those rows are made again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import stat
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from kiyas.study import limits
from kiyas.types import KiyasError

_UNABLE = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.ENOLCK)
"""What file systems without fsync, rename or locks say."""
_ODD = (errno.EIO, errno.EFBIG, errno.ENAMETOOLONG, errno.ELOOP)


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
        if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise KiyasError(f"cannot write {path}: {error.strerror}", "move what is in its place away") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, *_ODD):
            raise KiyasError(f"cannot write {path}: {error.strerror}") from error
        if error.errno in _UNABLE:
            raise KiyasError(
                f"cannot write {path} safely: this file system does not support it ({error.strerror})",
                "put the runs on another file system (--runs FOLDER)",
            ) from error
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
                _sync(file)
            _replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _replace(temporary: Path, path: Path) -> None:
    """Gives a file its name, so that the name too outlives a power cut."""
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Some network file systems cannot do this for a folder: the file itself is safe all the same.
        with contextlib.suppress(OSError):
            os.fsync(folder)
    finally:
        os.close(folder)


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


_SEAL = "sha256"
STAGE_FOLDERS = ("data", "train", "generate", "judge", "analyse", "report")


def write_sealed(path: Path, value: Any) -> None:
    """Writes a JSON document with the digest of itself; a list is wrapped as `value`."""
    document = value if isinstance(value, dict) else {"value": value}
    write_json(path, {**document, _SEAL: digest(document)})


def read_sealed(path: Path) -> Any:
    """What `write_sealed` wrote, or a document without a seal, as older versions wrote them.

    Raises KiyasError as `read_json`; `ChangedError` where the document is not what was written.
    """
    try:
        found = read_json(path)
    except KiyasError as error:
        raise ChangedError(error.args[0], how_to_mend(path)) from error
    if not isinstance(found, dict) or _SEAL not in found:
        return found
    seal = found.pop(_SEAL)
    if seal != digest(found):
        raise ChangedError(f"{path} was changed after Kıyas had written it", how_to_mend(path))
    return found["value"] if found.keys() == {"value"} else found


def unsealed(path: Path) -> Any:
    """A JSON document without its seal, whether that holds or not."""
    found = read_json(path)
    return {key: value for key, value in found.items() if key != _SEAL} if isinstance(found, dict) else found


class ChangedError(KiyasError):
    """A file is not what was written."""


def how_to_mend(path: Path) -> str:
    """What to do about a damaged file of a run folder: its second to last folder, or one above, is its stage."""
    made = next((part for part in reversed(path.parent.parts) if part in STAGE_FOLDERS), None)
    if made is None:
        again = f"kiyas verify {path.parent} --restore"
        return f"restore it from a copy; `{again}` writes it again as the last finished stage knew it"
    return f"restore it from a copy, or make it again: kiyas run STUDY --redo {made} (an import: import again)"


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]], *, sealed: bool = False) -> None:
    """Writes a whole JSONL file, whole or not at all; `sealed` where a `JsonlWriter` adds to it."""
    sha, size = hashlib.sha256(), 0
    with atomic_file(path) as file:
        for row in rows:
            line = _line(row)
            file.write(line)
            sha.update(line)
            size += len(line)
        if sealed:  # before the file appears: a kill in between leaves the old file, which an older entry confirms
            with seal_of(path).open("ab") as seal:
                seal.write(_entry(size, sha))


def read_json(path: Path, limit: limits.Limit | None = None) -> Any:
    """Raises KiyasError with the file's name when it is absent, not JSON, or larger than the limit."""
    refuse_not_a_file(path)
    try:
        (limit or limits.DOCUMENT).refuse_above(path.stat().st_size, path)
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
    """The same, one at a time: problems may have tests of many megabytes. Of a sealed file what its seal notes."""
    refuse_not_a_file(path)
    end = _noted(path)
    with path.open("rb") as file:
        yield from json_objects(path, _lines(path, file, end))


class Tail:
    """Follows files that another process appends rows to."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[int, int]] = {}
        """which file, and how far, in bytes"""

    def rows(self, path: Path) -> list[dict[str, Any]]:
        """Those of the whole lines that were added since the last call; all of them where the file was cut or replaced.

        None of a file that is not there, or no longer.
        """
        try:
            with path.open("rb") as file:
                number = os.fstat(file.fileno()).st_ino
                before, start = self._read.get(path, (number, 0))
                file.seek(max(0, start - 1))
                if before != number or (start and file.read(1) != b"\n"):
                    start = 0
                file.seek(start)
                whole, end, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._read[path] = number, start + len(whole + end)
        return [json.loads(line) for line in whole.splitlines()]


def lines_of(path: Path, file: IO[bytes] | io.BufferedIOBase, limit: limits.Limit) -> Iterator[bytes]:
    """Every line with its end. Raises KiyasError before one that is longer than the limit is in memory."""
    number = 0
    while line := file.readline(limit.most + 1):
        number += 1
        limit.refuse_above(len(line), f"{path}, line {number}", known=False)
        yield line


def _lines(path: Path, file: IO[bytes], end: int | None) -> Iterator[bytes]:
    read = 0
    for line in lines_of(path, file, limits.LINE):
        read += len(line)
        if line.endswith(b"\n") and (end is None or read <= end):
            yield line


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


def seal_of(path: Path) -> Path:
    """The file beside a growing JSONL file that confirms what was written to it."""
    return path.with_name(f".{path.name}.seal")


def _name(sha: hashlib._Hash) -> str:
    return sha.hexdigest()[:32]


def _entry(size: int, sha: hashlib._Hash) -> bytes:
    return f"{size} {_name(sha)}\n".encode()


def _checked(path: Path) -> tuple[int, int]:
    """How many bytes of a growing file its seal confirms, and the length that it noted last. Reads the file once.

    A seal that is lost or notes nothing confirms nothing: then the length is −1.
    """
    if not seal_of(path).is_file():
        return 0, -1
    with path.open("rb") as file, seal_of(path).open("rb") as seal:
        return confirmed(file, seal)


def confirmed(file: IO[bytes], seal: IO[bytes]) -> tuple[int, int]:
    """The same, of an open file and its open seal."""
    sha, read, good, last = hashlib.sha256(), 0, 0, -1
    for last, name in _entries(seal):
        if last < read:  # the file was to be written anew
            file.seek(0)
            sha, read = hashlib.sha256(), 0
        while read < last and (block := file.read(min(1 << 20, last - read))):
            sha.update(block)
            read += len(block)
        if read == last and _name(sha) == name:
            good = max(good, last)
    return good, last


def _entries(seal: IO[bytes]) -> Iterator[tuple[int, str]]:
    for line in seal:
        size, _, name = line.decode("ascii", "replace").partition(" ")
        if size.isdigit() and name.endswith("\n"):
            yield int(size), name.strip()


def _noted(path: Path) -> int | None:
    """The length that a growing file's seal noted last; None without a seal."""
    if not seal_of(path).exists():
        return None
    with seal_of(path).open("rb") as seal:
        seal.seek(max(0, seal.seek(0, os.SEEK_END) - _SEVERAL_ENTRIES))
        return max((size for size, _ in deque(_entries(seal), 1)), default=0)


_SEVERAL_ENTRIES = 256  # bytes: whole ones, after a part of one


def is_confirmed(path: Path) -> bool:
    """Is a growing file, as far as its seal noted it last, what was written?"""
    if not path.is_file():
        return False
    good, last = _checked(path)
    return good == last


def seal_older(path: Path) -> None:
    """Takes the whole rows of a growing file that an older version left without a seal."""
    with disk_errors(path), path.open("rb+") as file:
        file.truncate(_whole_lines(path))
    seal_rows(path)


def seal_rows(path: Path) -> None:
    """Takes a growing file as it is: its seal confirms all of it, and nothing else."""
    sha, size = hashlib.sha256(), 0
    if path.exists():
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                sha.update(block)
                size += len(block)
    atomic_bytes(seal_of(path), _entry(size, sha))


def settle(path: Path) -> None:
    """Makes a growing file ready to go on: what its seal does not confirm is cut off, to be made again.

    Where that is more than what a kill leaves, the file as found is kept beside it, and a line on stderr says so.
    """
    if not path.exists():
        seal_of(path).unlink(missing_ok=True)
        return
    refuse_not_a_file(path)
    with disk_errors(path):
        (good, last), size = _checked(path), path.stat().st_size
        if good == size == last:
            return
        if good not in (size, last):
            kept = path.with_name(f"{path.name}.changed")
            shutil.copyfile(path, kept)
            print(
                f"{path} was changed, cut or damaged; its first {good:,} bytes are sound, and what followed is "
                f"made again (the file as found is kept as {kept.name})",
                file=sys.stderr,
            )
        with path.open("rb+") as file:
            file.truncate(good)
        seal_rows(path)


def _whole_lines(path: Path) -> int:
    """Length of the file without a torn last line."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            position = start
    return 0


SYNC_EVERY_S = 5.0


class JsonlWriter:
    """Appends rows, whole writes at a time, each confirmed by the seal. `settle` the file before it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            settle(path)
            self._file: IO[bytes] = path.open("ab+")
            self._sha, self._size = hashlib.sha256(), 0
            self._file.seek(0)
            while block := self._file.read(1 << 20):
                self._count(block)
            atomic_bytes(seal_of(path), _entry(self._size, self._sha))
            self._seal: IO[bytes] = seal_of(path).open("ab")
            self._synced = time.monotonic()

    def _count(self, data: bytes) -> None:
        self._sha.update(data)
        self._size += len(data)

    def _confirm(self) -> None:
        self._seal.write(_entry(self._size, self._sha))
        self._seal.flush()

    def write(self, *rows: dict[str, Any]) -> None:
        data = b"".join(_line(row) for row in rows)
        with disk_errors(self.path):
            self._file.write(data)
            self._file.flush()
            self._count(data)
            self._confirm()
            if time.monotonic() - self._synced > SYNC_EVERY_S:
                self.sync()

    def sync(self) -> int:
        """Makes what was written outlive a power cut; returns its length."""
        with disk_errors(self.path):
            _sync(self._file)
            _sync(self._seal)
            self._synced = time.monotonic()
        return self._size

    def close(self) -> None:
        """Raises KiyasError where the file is not what was written: removed, replaced or edited meanwhile."""
        with disk_errors(self.path):
            if not self._file.closed:
                self.sync()
                self._file.close()
                self._seal.close()

    def __enter__(self) -> JsonlWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close()
        if kind is None and (not self.path.exists() or _checked(self.path) != (self._size, self._size)):
            raise KiyasError(
                f"{self.path} was removed or changed while it was being written",
                "run the same command again: what is missing is made again",
            )


def sha256(path: Path) -> str:
    """Digest of a file's bytes. A file that was not touched since is read once in a process."""
    with path.open("rb") as file:
        now = os.fstat(file.fileno())
        # The time of change cannot be set back by an editor, unlike the time of modification.
        key = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        if key in _known:
            return _known[key]
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - now.st_ctime > 1:  # clocks of file systems are coarse: a change in the same tick looks like none
        _known[key] = found
    return found


def digests(folder: Path) -> dict[str, str]:
    """Digests of the files in a folder, by name; none where there is no such folder."""
    return {path.name: sha256(path) for path in sorted(folder.glob("*")) if path.is_file()}


_known: dict[tuple[int, ...], str] = {}


def digest(value: Any) -> str:
    """Digest of a JSON value, independent of key order."""
    return hashlib.sha256(_utf8(json.dumps(value, sort_keys=True, ensure_ascii=False))).hexdigest()
