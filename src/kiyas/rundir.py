"""The run folder: paths, whole-or-nothing writes, JSONL that survives a kill, manifests, one process at a time.

A stage is finished when its `manifest.json` stands, written last and atomically. JSONL files are only ever
appended to; a torn last line (a kill in mid-write) is cut off and its row is owed again. See docs/formats.md.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from kiyas import __version__
from kiyas.types import KiyasError


class Stage(StrEnum):
    """The stages in the order in which they run."""

    DATA = "data"
    TRAIN = "train"
    GENERATE = "generate"
    JUDGE = "judge"
    ANALYSE = "analyse"
    REPORT = "report"

    @property
    def later(self) -> list[Stage]:
        """This stage and all that follow from it."""
        stages = list(Stage)
        return stages[stages.index(self) :]


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
                "free some space and give the same command again; what was finished is kept",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, *_ODD):
            raise KiyasError(f"cannot write {path}: {error.strerror}") from error
        raise


def atomic_text(path: Path, text: str) -> None:
    """Writes a whole text file or none: a reader never sees half of it."""
    # Half a surrogate pair, which a model's text may hold, becomes JSON's own escape.
    atomic_bytes(path, text.encode("utf-8", "backslashreplace"))


def atomic_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file or none."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes one JSON document, whole or not at all."""
    atomic_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a whole JSONL file, whole or not at all."""
    atomic_text(path, "".join(_line(row) for row in rows))


def read_json(path: Path) -> Any:
    """Raises KiyasError with the file's name when it is absent or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KiyasError(f"no such file: {path}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise KiyasError(f"{path} is not valid JSON: {error}") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All rows of a file that Kıyas wrote. A torn last line is left out; a broken line elsewhere is an error."""
    with path.open("rb") as file:
        return list(json_objects(path, (line for line in file if line.endswith(b"\n"))))


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


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(", ", ": ")) + "\n"


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
            self._file.write("".join(_line(row) for row in rows).encode("utf-8"))
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


@dataclass(frozen=True)
class RunDir:
    """Where everything of one run lies. Creating the object touches nothing on disk."""

    root: Path

    def stage(self, stage: Stage) -> Path:
        return self.root / stage.value

    @property
    def study_copy(self) -> Path:
        return self.root / "study.yaml"

    @property
    def resolved(self) -> Path:
        return self.root / "resolved.json"

    def arm_data(self, arm: str) -> Path:
        return self.root / "data" / f"{arm}.jsonl"

    @property
    def problems(self) -> Path:
        return self.root / "data" / "problems.jsonl"

    @property
    def contamination(self) -> Path:
        return self.root / "data" / "contamination.json"

    @property
    def train_log(self) -> Path:
        return self.root / "train" / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.root / "train" / "checkpoints"

    @property
    def train_state(self) -> Path:
        return self.root / "train" / "state"

    @property
    def completions(self) -> Path:
        return self.root / "generate" / "completions.jsonl"

    @property
    def judgments(self) -> Path:
        return self.root / "judge" / "judgments.jsonl"

    @property
    def differences(self) -> Path:
        return self.root / "judge" / "differences.csv"

    @property
    def findings(self) -> Path:
        return self.root / "analyse" / "findings.json"

    @property
    def report(self) -> Path:
        return self.root / "report"

    def manifest(self, stage: Stage) -> dict[str, Any] | None:
        """The stage's manifest, or None while the stage is not finished."""
        path = self.stage(stage) / "manifest.json"
        if not path.exists():
            return None
        value: dict[str, Any] = read_json(path)
        return value

    def finish(self, stage: Stage, inputs: dict[str, str], counts: dict[str, Any], seconds: float) -> None:
        """Declares a stage finished: writes its manifest, last."""
        write_json(
            self.stage(stage) / "manifest.json",
            {
                "stage": stage.value,
                "inputs": inputs,
                "counts": counts,
                "seconds": round(seconds, 2),
                "kiyas_version": __version__,
            },
        )

    def drop(self, stage: Stage) -> None:
        """Removes what this stage and all later ones made; report.md stays, since its author's text is not ours."""
        for each in stage.later:
            # The manifest goes first: a half-removed stage must not look finished.
            (self.stage(each) / "manifest.json").unlink(missing_ok=True)
            if each is Stage.REPORT and any(self.report.glob("report.md*")):
                self._empty_report()
            else:
                shutil.rmtree(self.stage(each), ignore_errors=True)

    def _empty_report(self) -> None:
        for path in self.report.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith("report.md"):
                path.unlink()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run folder for this process. A second process is refused with KiyasError.

        The kernel drops the lock with the process, so that a kill leaves nothing to clean up.
        """
        import fcntl

        with disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / ".lock").open("a+")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise KiyasError(
                    f"another process (pid {owner}) is working on {self.root}",
                    "wait for it, or give this study another `name`",
                ) from None
            with disk_errors(self.root):
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
            yield
