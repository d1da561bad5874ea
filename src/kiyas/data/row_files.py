"""Files of rows, as people have them: JSON and JSON lines, CSV, Parquet, plain or compressed.

What a file is comes from its bytes where they say it, else from its name. What cannot be read is refused by name, with
what to do.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from kiyas import practice
from kiyas.data import hub
from kiyas.runfolder.files import json_objects
from kiyas.study.settings import PRACTICE, is_hub_id
from kiyas.types import KiyasError

Row = dict[str, Any]

_PACKED = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ\x00": lzma.decompress}
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


def read_rows(name: str, revision: str | None = None, config: str | None = None) -> list[Row]:
    """Rows of a JSONL, JSON, CSV or Parquet file, of a data set on the Hub, or of `practice/NAME`.

    Raises KiyasError with file and line.
    """
    if is_hub_id(name):
        return hub.dataset_rows(name, revision, config)
    if name.startswith(PRACTICE + "/"):
        return practice.dataset(name.removeprefix(PRACTICE + "/"))
    path = Path(name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KiyasError(f"cannot read {path}: {error.strerror or error}") from error
    data, inner = _unpacked(path, data)
    for start, what, remedy in _REFUSED:
        if data[: len(start)].lower() == start.lower():
            raise KiyasError(f"{path}: this is {what}", remedy)
    try:
        rows = _rows(path, data, inner)
    except UnicodeDecodeError as error:
        raise KiyasError(f"{path}: not UTF-8 text: {error}", "save it as UTF-8") from error
    if not rows:
        raise KiyasError(f"{path} holds no rows")
    return rows


def _unpacked(path: Path, data: bytes) -> tuple[bytes, str]:
    """The bytes without compression, and the suffix that says what they are."""
    name = Path(path.name)
    for start, unpack in _PACKED.items():
        if data.startswith(start):
            try:
                data = unpack(data)
            except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
                raise KiyasError(f"{path}: broken or cut off ({error})", "fetch it again") from error
            break
    packed = name.suffix.lower() in (".gz", ".bz2", ".xz", ".zst", ".lzma")
    return data, (Path(name.stem) if packed else name).suffix.lower()


def _rows(path: Path, data: bytes, suffix: str) -> list[Row]:
    start = data.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    kind = "parquet" if data.startswith(b"PAR1") else _KINDS.get(suffix, "json" if start in (b"{", b"[") else None)
    if kind == "parquet":
        return _parquet(path, data)
    if kind is None:
        raise KiyasError(f"{path}: unknown file type {suffix!r}", _USUAL)
    if not data.strip():
        return []
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    # Text that a terminal of Windows redirected into a file is UTF-16, with a mark in front.
    data = data.decode("utf-16").encode("utf-8", "surrogatepass") if wide else data.removeprefix(codecs.BOM_UTF8)
    return _json(path, data, suffix) if kind == "json" else _csv(path, data.decode("utf-8"), suffix)


def _json(path: Path, data: bytes, suffix: str) -> list[Row]:
    """A list of objects, or an object a line, whatever the file's name says."""
    try:
        value = json.loads(data)
    except UnicodeDecodeError:
        value = None
    except (ValueError, RecursionError) as error:
        if data.lstrip()[:1] == b"[" and suffix == ".json":
            raise KiyasError(f"{path}: not valid JSON ({error})") from error
        value = None
    if isinstance(value, list):
        for number, row in enumerate(value, 1):
            if not isinstance(row, dict):
                raise KiyasError(
                    f"{path}: expected a list of objects; item {number} is {_kind(row)}, not a JSON object", _A_LIST
                )
        return value
    if isinstance(value, dict) and suffix == ".json":
        keys = ", ".join(list(map(str, value))[:8])
        raise KiyasError(f"{path}: expected a list of objects; it is one object with the keys {keys}", _A_LIST)
    return list(json_objects(path, data.split(b"\n")))


def _kind(value: Any) -> str:
    names: dict[type, str] = {str: "text", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _csv(path: Path, text: str, suffix: str) -> list[Row]:
    csv.field_size_limit(2**31 - 1)
    header = text.partition("\n")[0]
    between = "\t" if suffix == ".tsv" else next((each for each in ",;\t|" if each in header), ",")
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=between)
        twice = [name for name, count in Counter(reader.fieldnames or ()).items() if count > 1]
        if twice:
            raise KiyasError(f"{path}: the column {twice[0]!r} occurs twice")
        rows = list(reader)
    except csv.Error as error:
        raise KiyasError(f"{path}: not valid CSV ({error})") from error
    for number, row in enumerate(rows, 1):
        if None in row:
            raise KiyasError(f"{path}, row {number}: more cells than the header has columns")
    return rows


def _parquet(path: Path, data: bytes) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise KiyasError(f"{path}: not a Parquet file ({error})", "fetch or write it again") from error
    return rows
