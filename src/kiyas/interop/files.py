"""The files of someone else's study: searched for, read as tables of rows, and what was unusual about them."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiyas.interop import names
from kiyas.judge.terminal import many
from kiyas.judge.verdict_file import SEAL, is_sealed
from kiyas.runfolder.files import lines_of
from kiyas.runfolder.spreadsheet import text_of_cell
from kiyas.study import limits
from kiyas.types import KiyasError

Row = dict[str, Any]
Table = list[tuple[str, Row]]
"""Rows, each with its place in the file, for messages."""
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".eval")


class Notes:
    """What was unusual, in words; the same remark about several files is made once."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, int]] = {}
        self.rows_read = 0
        self.left: Counter[str] = Counter()
        """rows of results and logs that are not used, by reason"""

    def add(self, what: str, file: Path | None = None, rows: int = 0) -> None:
        """`rows`: how many rows of the file it is true of; 0 where it is the file itself."""
        files = self._files.setdefault(what, {})
        if file is not None:
            name = f"{file.parent.name}/{file.name}"
            files[name] = files.get(name, 0) + rows

    @contextlib.contextmanager
    def rows(self, file: File, count: int) -> Iterator[Rows]:
        """For reading a file's rows: what was unusual about them is noted at the end, unless the file is given up."""
        rows = Rows(file)
        self.rows_read += count
        try:
            yield rows
        except KiyasError:
            self.left_out(count, "lay in files that were left out")
            raise
        self.left_out(len(rows.broken), "could not be read")
        self.left.update(rows.left)
        if rows.broken:
            first = str(rows.broken[0].args[0]).removeprefix(f"{file.path}, ")
            self.add(f"rows that cannot be read were left out, the first: {first}", file.path, len(rows.broken))
        for what, count in rows.odd.items():
            self.add(what, file.path, count)

    def left_out(self, rows: int, why: str) -> None:
        """Rows that were read and are not used, with the reason in words."""
        if rows:
            self.left[why] += rows

    def count(self) -> str:
        """How many rows of results and logs were used, and why the others were not; nothing where there were none."""
        if not self.rows_read:
            return ""
        left = +self.left
        lost = left.total()
        used = f"{self.rows_read - lost} of {self.rows_read} rows were used"
        was, they = ("was", "it") if lost == 1 else ("were", "they")
        why = ", ".join(f"{they} {reason} ({rows})" for reason, rows in left.most_common())
        return used + (f"; {lost} {was} left out because {why}" if lost else "")

    def lines(self) -> tuple[str, ...]:
        return tuple(_line(what, files) for what, files in self._files.items())


def _line(what: str, files: dict[str, int]) -> str:
    rows = sum(files.values())
    count = f"{many(rows, 'row')}"
    if len(files) < 2:
        return "".join(f"{name}: " for name in files) + what + (f" ({count})" if rows else "")
    return f"{what} ({f'{count} in ' if rows else ''}{len(files)} files: {some(files, 3)})"


def some(names: Iterable[str], most: int) -> str:
    """The first of them: `a, b, c …`, each cut where it is endless."""
    first, more = list(names)[:most], list(names)[most:]
    return ", ".join(name[:120] for name in first) + (" …" if more else "")


@dataclass(frozen=True)
class File:
    """A file to read: `named` by the user or found by searching; `folders` may say whose it is, outermost first."""

    path: Path
    named: bool
    folders: tuple[str, ...]

    @property
    def suffix(self) -> str:
        """Of what is in it: `.jsonl` for `a.jsonl.gz` too."""
        return Path(self.path.stem).suffix if self.path.suffix == ".gz" else self.path.suffix


class Rows:
    """What is unusual about the rows of one file, counted."""

    def __init__(self, file: File) -> None:
        self.odd: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.broken: list[KiyasError] = []
        self._file = file

    def left_out(self, what: str, why: str) -> None:
        """One row that is not used: a remark, if it is unusual, and the reason for the count."""
        if what:
            self.odd[what] += 1
        self.left[why] += 1

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """For reading one row: leaves out one that cannot be read, where the file was found by searching."""
        try:
            yield
        except KiyasError as error:
            if self._file.named:
                raise
            self.broken.append(error)


def search(sources: list[Path], only: list[str], own: Path | None) -> Iterator[File]:
    """Every candidate once, in order of name; hidden ones and what lies in `own` are passed over.

    Links are followed, but what they lead to is read once, and by its own name where that is below a source too.
    `only`: texts or globs, one of which must match the file's path. Raises KiyasError for a source that is not there.
    """
    seen: set[Path] = set()
    for source in sources:
        if not source.exists():
            raise KiyasError(f"no such file or folder: {source}")
    common = Path(os.path.commonpath([_absolute(source) for source in sources]))
    for source in sources:
        named = source.is_file()
        root = _root(_absolute(source), named, common)
        found = [source] if named else _below(source, set())
        real = {path.resolve() for path in found if not path.is_symlink()}
        for path in sorted(found):
            resolved = Path(os.path.realpath(path))  # a link may lead to itself
            if resolved in seen or (path.is_symlink() and resolved in real):
                continue
            if own is not None and resolved.is_relative_to(own):
                continue
            if only and not any(text in str(path) or path.match(text) for text in only):
                continue
            if not path.is_symlink():
                seen.add(resolved)
            yield File(path, named, _absolute(path).relative_to(root).parts[:-1])


def _absolute(path: Path) -> Path:
    """Without `..`, and by the name that the user gave: a link is not replaced by what it leads to."""
    return Path(os.path.normpath(path.absolute()))


def _root(source: Path, named: bool, common: Path) -> Path:
    """Names below this folder may say whose a source's files are: its own, and where it differs from other sources."""
    folder = source.parent if named else source
    while names.only_a_checkpoint(folder.name):
        folder = folder.parent
    root = folder.parent
    if root.name == "snapshots":  # the Hub's cache: models--OWNER--NAME/snapshots/HASH
        root = root.parent.parent
    return common if len(common.parts) < len(root.parts) else root


def leads_down(link: Path) -> bool:
    """Whether a link to a folder may be followed: not to one that holds it, nor to what the kernel makes up."""
    real = link.resolve()
    return not link.parent.resolve().is_relative_to(real) and not any(map(real.is_relative_to, KERNELS))


KERNELS = ("/proc", "/sys", "/dev")


def _below(folder: Path, walked: set[Path]) -> list[Path]:
    """The files below a folder and, once all others are known, below the folders that links lead to."""
    found: list[Path] = []
    links: list[Path] = []
    for place, folders, files in os.walk(folder):
        walked.add(Path(place).resolve())
        blobs = {"blobs"} if "snapshots" in folders else set()  # the snapshots link to them
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in blobs)
        links += [path for name in folders if (path := Path(place) / name).is_symlink() and leads_down(path)]
        paths = (Path(place) / name for name in files if not name.startswith("."))
        found += [path for path in paths if path.is_file() or path.is_symlink()]
    for link in links:
        if not any(link.resolve().is_relative_to(place) for place in walked):
            found += _below(link, walked)
    return found


def tables(file: File, notes: Notes) -> list[Table]:
    """The tables of rows in a file: one of a JSONL or CSV file; of a JSON document itself and the lists in it.

    A torn last line is noted. Other broken lines too, where the file was found by searching; where the user named
    it they raise KiyasError, as does a JSON document that is not one.
    """
    limit = limits.RESULTS if file.suffix in (".jsonl", ".csv", ".tsv") else limits.DOCUMENT
    try:
        with gzip.open(file.path) if file.path.suffix == ".gz" else file.path.open("rb") as opened:
            if file.suffix == ".jsonl":
                return [_lines(file, _within(file.path, lines_of(file.path, opened, limits.ROW)), notes)]
            data = opened.read(limit.most + 1)
            limit.refuse_above(len(data), file.path, known=False)
    except (OSError, EOFError, zlib.error) as error:
        raise KiyasError(f"{file.path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        text = data.decode("utf-8-sig")
        if file.suffix in (".csv", ".tsv"):
            return [_csv(file.path, text)]
        value = json.loads(text)
    except UnicodeDecodeError as error:
        raise KiyasError(f"{file.path}: not UTF-8 text ({error})") from error
    except (ValueError, RecursionError) as error:
        raise KiyasError(f"{file.path}: not valid JSON ({error})", "repair or remove this file") from error
    named: dict[str, Any] = value if isinstance(value, dict) else {"": value}
    found = [] if not isinstance(value, dict) else [[(str(file.path), value)]]
    for key, each in named.items():
        if isinstance(each, list):
            before, after = (f"{key}[", "]") if key else ("entry ", "")
            rows = [(f"{file.path}, {before}{n}{after}", row) for n, row in enumerate(each, 1) if isinstance(row, dict)]
            found.append(rows)
    return found


def _within(path: Path, lines: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of a file that holds no more than it may."""
    size = 0
    for line in lines:
        size += len(line)
        limits.RESULTS.refuse_above(size, path, known=False)
        yield line


def _lines(file: File, lines: Iterator[bytes], notes: Notes) -> Table:
    found: Table = []
    broken: list[str] = []
    torn = changed = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file.path}, line {number}"
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            if not line.endswith(b"\n"):
                notes.add(f"line {number} is incomplete (cut off); this row is missing", file.path)
                torn = 1
                break
            fault = KiyasError(f"{where}: not valid JSON ({error})", "repair or remove this line and import again")
        else:
            if isinstance(row, dict):
                found.append((where, row))
                changed += row.keys() >= set(SEAL) and not is_sealed(line.rstrip(b"\n") + b"\n")
                continue
            fault = KiyasError(f"{where}: expected a JSON object, found {type(row).__name__}")
        if file.named:
            raise fault
        broken.append(str(number))
    if changed:
        notes.add("not as `kiyas judge` wrote them: edited, or written again by another program", file.path, changed)
    lost = len(broken) + torn
    notes.rows_read += lost
    notes.left_out(lost, "were not valid JSON")
    if broken:
        notes.add(f"not valid JSON in line {some(broken, 4)}; missing", file.path, len(broken))
    return found


def _csv(path: Path, text: str) -> Table:
    header = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    if delimiter == ";":
        text = re.sub(r"(?<![\w.,])(-?\d+),(\d+)(?![\w.,])", r"\1.\2", text)  # a decimal comma
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    found: Table = []
    try:
        for row in reader:
            if None in row:
                raise KiyasError(f"{path}, line {reader.line_num}: more fields than the header has")
            cells = {key: text_of_cell(cell) if isinstance(cell, str) else cell for key, cell in row.items()}
            found.append((f"{path}, line {reader.line_num}", cells))
    except csv.Error as error:
        raise KiyasError(f"{path}, line {reader.line_num}: {error}") from error
    return found
