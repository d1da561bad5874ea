"""Files of rows, as people have them: JSON and JSON lines, CSV, Parquet, plain or compressed.

What a file is comes from its bytes where they say it, else from its name. What cannot be read is refused by name, with
what to do.

Files are read as streams, a piece at a time: memory is that of the longest row (study/limits.py), whatever a file
unpacks to.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import csv
import gzip
import io
import itertools
import json
import lzma
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kiyas import practice
from kiyas.data import hub
from kiyas.runfolder.files import disk_errors, json_objects, refuse_not_a_file
from kiyas.study import limits
from kiyas.study.settings import PRACTICE, is_hub_id
from kiyas.types import KiyasError

Row = dict[str, Any]

PIECE = 1 << 20
"""Bytes that are read at once."""
_REFUSED = (
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "unpack it: zstd -d FILE"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save the table as CSV"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"ARROW1", "an Arrow file", "write it as Parquet: Dataset.to_parquet(FILE)"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "fetch the data: git lfs pull"),
    (b"SQLite format 3", "a database", "write its table as JSON lines or CSV"),
    (b"<!DOCTYPE", "a web page, not the data", "download the file itself (on the Hub: resolve, not blob)"),
    (b"<html", "a web page, not the data", "download the file itself (on the Hub: resolve, not blob)"),
)
_KINDS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
_USUAL = "give .jsonl, .json, .csv or .parquet, plain or as .gz, .bz2 or .xz"
_A_LIST = "write one JSON object a line; from pandas: to_json(FILE, orient='records', lines=True)"


@dataclass(frozen=True)
class Rows:
    """Rows that can be gone through again and again; each time they are read anew."""

    begin: Callable[[], Iterator[Row]]

    def __iter__(self) -> Iterator[Row]:
        return self.begin()


def read_rows(name: str, revision: str | None = None, config: str | None = None) -> Iterable[Row]:
    """Rows of a JSONL, JSON, CSV or Parquet file, of a data set on the Hub, or of `practice/NAME`.

    Raises KiyasError with file and line: a file is opened, and its rows are read, whenever they are gone through.
    """
    if is_hub_id(name):
        return hub.dataset_rows(name, revision, config)
    if name.startswith(PRACTICE + "/"):
        return practice.dataset(name.removeprefix(PRACTICE + "/"))
    return Rows(lambda: _rows_of(Path(name)))


def _rows_of(path: Path) -> Iterator[Row]:
    refuse_not_a_file(path)
    number = 0
    try:
        with contextlib.ExitStack() as open_files:
            stream, suffix = _unpacked(path, open_files)
            for number, row in enumerate(_rows(path, stream, suffix), 1):
                limits.ROWS.refuse_above(number, path, known=False)
                yield row
    except UnicodeDecodeError as error:
        raise KiyasError(f"{path}: not UTF-8 text: {error}", "save it as UTF-8") from error
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise KiyasError(f"{path}: broken or cut off ({error})", "fetch it again") from error
    except OSError as error:
        if error.errno is None:  # what unpacks says so of a broken stream
            raise KiyasError(f"{path}: broken or cut off ({error})", "fetch it again") from error
        raise KiyasError(f"cannot read {path}: {error.strerror or error}") from error
    if not number:
        raise KiyasError(f"{path} holds no rows")


# -- bytes --------------------------------------------------------------------------------------------------------


def _unpacked(path: Path, open_files: contextlib.ExitStack) -> tuple[io.BufferedReader, str]:
    """The file's bytes without compression, and the suffix that says what they are."""
    file = open_files.enter_context(path.open("rb"))
    start, name = file.peek(8), Path(path.name)
    stream: Any = file
    if start.startswith(b"\x1f\x8b"):
        stream = io.BufferedReader(gzip.GzipFile(fileobj=file), PIECE)
    elif start.startswith(b"BZh"):
        stream = io.BufferedReader(bz2.BZ2File(file), PIECE)
    elif start.startswith(b"\xfd7zXZ\x00"):
        stream = io.BufferedReader(_Xz(file, path), PIECE)
    packed = name.suffix.lower() in (".gz", ".bz2", ".xz", ".zst", ".lzma")
    return stream, (Path(name.stem) if packed else name).suffix.lower()


class _Xz(io.RawIOBase):
    """What an xz file holds, with a bound on the memory that it may ask for."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._unpack = self._new()

    def _new(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(memlimit=limits.DICTIONARY.most)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            given = b""
            if self._unpack.eof:  # files may be joined, with zeros between them
                given = (self._unpack.unused_data or self._file.read(PIECE)).lstrip(b"\0")
                if not given:
                    return 0
                self._unpack = self._new()
            elif self._unpack.needs_input:
                given = self._file.read(PIECE)
                if not given:
                    raise EOFError("it ends in the middle of a stream")
            try:
                found = self._unpack.decompress(given, len(buffer))
            except lzma.LZMAError as error:
                if "emory usage limit" in str(error):
                    limits.DICTIONARY.refuse_above(limits.DICTIONARY.most + 1, self._path, known=False)
                raise
            if found:
                buffer[: len(found)] = found
                return len(found)


def _pieces(path: Path, stream: IO[bytes]) -> Iterator[bytes]:
    """UTF-8, without a mark in front. Text that a terminal of Windows redirected into a file is UTF-16 with one."""
    size, decoder = 0, None
    first = stream.read(PIECE)
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")()
    for piece in itertools.chain([first.removeprefix(codecs.BOM_UTF8)], iter(lambda: stream.read(PIECE), b"")):
        size += len(piece)
        limits.UNPACKED.refuse_above(size, path, known=False)
        yield decoder.decode(piece).encode("utf-8", "surrogatepass") if decoder else piece
    if decoder:
        decoder.decode(b"", final=True)


def _lines(path: Path, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Up to each line feed."""
    rest: list[bytes] = []
    number, size = 1, 0
    for piece in pieces:
        first, *others = piece.split(b"\n")
        rest.append(first)
        size += len(first)
        limits.ROW.refuse_above(size, f"{path}, line {number}", known=False)
        for other in others:
            yield b"".join(rest)
            rest, size, number = [other], len(other), number + 1
    yield b"".join(rest)


# -- formats ------------------------------------------------------------------------------------------------------


def _rows(path: Path, stream: io.BufferedReader, suffix: str) -> Iterator[Row]:
    data = stream.peek(1 << 16)
    for start, what, remedy in _REFUSED:
        if data[: len(start)].lower() == start.lower():
            raise KiyasError(f"{path}: this is {what}", remedy)
    sign = data.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    kind = "parquet" if data.startswith(b"PAR1") else _KINDS.get(suffix, "json" if sign in (b"{", b"[") else None)
    if kind == "parquet":
        return _parquet(path, stream)
    if kind is None:
        raise KiyasError(f"{path}: unknown file type {suffix!r}", _USUAL)
    pieces = _pieces(path, stream)
    start_of_text, pieces = _text_start(pieces)
    if not start_of_text:
        return iter(())
    if kind == "csv":
        return _csv(path, pieces, suffix)
    if start_of_text == b"[":
        return _json_list(path, pieces, suffix)
    return _json_lines(path, pieces, suffix)


def _text_start(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first byte that is not white space, and all pieces with something else than white space before them."""
    for piece in pieces:
        if piece.strip():
            return piece.lstrip()[:1], itertools.chain([piece], pieces)
    return b"", iter(())


def _json_lines(path: Path, pieces: Iterator[bytes], suffix: str) -> Iterator[Row]:
    """An object a line, whatever the file's name says; one object alone, of a .json file, is not a table."""
    lines = _lines(path, pieces)
    if suffix == ".json":
        started = list(itertools.islice((line for line in lines if line.strip()), 2))
        alone = started[0] if len(started) == 1 else b""
        if not alone and not _is_object(started[0]):  # it may go on below
            alone = b"\n".join(itertools.chain(started, itertools.islice(lines, limits.COLUMNS.most)))
        if (keys := _is_object(alone)) is not None:
            shown = ", ".join(keys[:8])
            raise KiyasError(f"{path}: expected a list of objects; it is one object with the keys {shown}", _A_LIST)
        lines = itertools.chain(started, lines)
    return json_objects(path, lines)


def _is_object(text: bytes) -> list[str] | None:
    """The keys of one JSON object; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return list(map(str, value)) if isinstance(value, dict) else None


def _json_list(path: Path, pieces: Iterator[bytes], suffix: str) -> Iterator[Row]:
    """A list of objects. As lines of a file that is not called .json, it is refused by its line."""
    number, decode, text = 0, json.JSONDecoder().raw_decode, _Text(path, pieces)
    try:
        text.skip("[")
        while (sign := text.next_sign()) != "]" or number == 0:
            if sign == "]":
                break
            if number:
                text.skip(",")
                text.next_sign()
            value = text.take(decode, f"{path}, item {number + 1}")
            number += 1
            if not isinstance(value, dict):
                found = f"item {number} is {_kind(value)}, not a JSON object"
                wanted = ": expected a list of objects" if suffix == ".json" else ", line 1: expected a JSON object"
                raise KiyasError(f"{path}{wanted}; {found}", _A_LIST)
            yield value
        text.skip("]")
        if text.next_sign():
            raise ValueError("something follows after the list")
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        where = path if suffix == ".json" else f"{path}, line 1"
        raise KiyasError(f"{where}: not valid JSON (item {number + 1}: {error})") from error


class _Text:
    """JSON text that is read on as far as the next value goes."""

    def __init__(self, path: Path, pieces: Iterator[bytes]) -> None:
        # As json.loads reads bytes.
        self._pieces = codecs.iterdecode(pieces, "utf-8", "surrogatepass")
        self._text, self._at = "", 0

    def _more(self, wanted: int = 1) -> bool:
        """Reads on, so many characters at least where they are there."""
        pieces, found = [self._text[self._at :]], 0
        while found < wanted and (piece := next(self._pieces, "")):
            pieces.append(piece)
            found += len(piece)
        self._text, self._at = "".join(pieces), 0
        return found > 0

    def next_sign(self) -> str:
        """The next sign that is not white space, still to be read; "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\n\r":
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def skip(self, sign: str) -> None:
        if self.next_sign() != sign:
            raise ValueError(f"expected {sign!r}")
        self._at += 1

    def take(self, decode: Callable[[str, int], tuple[Any, int]], where: str) -> Any:
        """The next value. Where it goes on beyond what was read, that is doubled first."""
        while True:
            failed = None
            try:
                value, end = decode(self._text, self._at)
                limits.ROW.refuse_above(end - self._at, where, known=False)
                if end < len(self._text):
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                failed = error
            begun = len(self._text) - self._at
            limits.ROW.refuse_above(begun, where, known=False)
            if not self._more(begun):
                raise ValueError(failed.msg if failed else "the list does not end")


def _kind(value: Any) -> str:
    names: dict[type, str] = {str: "text", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _csv(path: Path, pieces: Iterator[bytes], suffix: str) -> Iterator[Row]:
    csv.field_size_limit(limits.ROW.most)
    texts = codecs.iterdecode(pieces, "utf-8")
    first = next(texts, "")
    header = first.partition("\n")[0]
    between = "\t" if suffix == ".tsv" else next((each for each in ",;\t|" if each in header), ",")
    lines = _CsvLines(path, itertools.chain([first], texts))
    try:
        reader = csv.DictReader(lines, strict=True, delimiter=between)
        twice = [name for name, count in Counter(reader.fieldnames or ()).items() if count > 1]
        if twice:
            raise KiyasError(f"{path}: the column {twice[0]!r} occurs twice")
        for number, row in enumerate(reader, 1):
            lines.read = 0
            if None in row:
                raise KiyasError(f"{path}, row {number}: more cells than the header has columns")
            yield row
    except csv.Error as error:
        if "field limit" in str(error):
            limits.ROW.refuse_above(limits.ROW.most + 1, path, known=False)
        raise KiyasError(f"{path}: not valid CSV ({error})") from error


class _CsvLines:
    """Lines with their ends, as the csv module wants them: after a carriage return or a line feed or both."""

    def __init__(self, path: Path, texts: Iterable[str]) -> None:
        self.read = 0
        """characters since the last row"""
        self._path, self._lines = path, self._split(texts)

    def _split(self, texts: Iterable[str]) -> Iterator[str]:
        rest = ""
        for text in texts:
            rest += text
            end = max(rest.rfind("\n"), rest.rfind("\r", 0, -1)) + 1
            limits.ROW.refuse_above(len(rest) - end, self._path, known=False)
            yield from io.StringIO(rest[:end], newline="")
            rest = rest[end:]
        yield from io.StringIO(rest, newline="")

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.read += len(line)
        limits.ROW.refuse_above(self.read, self._path, known=False)
        return line


BATCH = 32
"""Rows of a Parquet file that are unpacked at once: one cell may be repeated in all of them."""


def _parquet(path: Path, stream: IO[bytes]) -> Iterator[Row]:
    """Row by row: texts stay in the file's dictionary, where it has one, until their row is made."""
    import pyarrow
    import pyarrow.parquet

    try:
        with _seekable(path, stream) as file:
            metadata = pyarrow.parquet.read_metadata(file)
            limits.ROWS.refuse_above(metadata.num_rows, path)
            limits.COLUMNS.refuse_above(metadata.num_columns, path)
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            for group in groups:
                for i in range(group.num_columns):
                    size = group.column(i).total_uncompressed_size
                    limits.PAGE.refuse_above(size, path)
                    limits.ROW.refuse_above(
                        size // max(1, group.num_rows), path
                    )  # of a mean one, before it is unpacked
            schema = metadata.schema.to_arrow_schema()
            texts = [field.name for field in schema if pyarrow.types.is_string(field.type)]
            file.seek(0)
            table = pyarrow.parquet.ParquetFile(file, read_dictionary=texts, buffer_size=PIECE, pre_buffer=False)
            unpacked = 0
            for batch in table.iter_batches(BATCH, use_threads=False):
                for i in range(batch.num_rows):
                    row = {name: column[i].as_py() for name, column in zip(schema.names, batch.columns, strict=True)}
                    size = _size(row)
                    limits.ROW.refuse_above(size, path)
                    unpacked += size
                    limits.UNPACKED.refuse_above(unpacked, path, known=False)
                    yield row
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise KiyasError(f"{path}: not a Parquet file ({error})", "fetch or write it again") from error


@contextlib.contextmanager
def _seekable(path: Path, stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """The stream, or a copy of it in a temporary file where it unpacks another one."""
    if getattr(stream, "raw", None).__class__ is io.FileIO:
        yield stream
        return
    with disk_errors(path), tempfile.TemporaryFile() as copy:
        size = 0
        while piece := stream.read(PIECE):
            size += len(piece)
            limits.UNPACKED.refuse_above(size, path, known=False)
            copy.write(piece)
        copy.seek(0)
        yield copy


def _size(value: Any) -> int:
    """Characters in a value, at least one for each of its parts."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()), len(value))
    return sum(map(_size, value), len(value)) if isinstance(value, list) else 1
