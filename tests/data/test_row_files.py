"""Files of rows as people have them: what they are comes from their bytes, or they are refused by name."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
from pathlib import Path

import pandas
import pytest

from kiyas.data.row_files import read_rows
from kiyas.study.settings import is_hub_id
from kiyas.types import KiyasError

ROWS = [{"prompt": "şeker?", "completion": "a\n,b"}, {"prompt": "q\u2028r", "completion": "e"}]
LIST = json.dumps(ROWS, ensure_ascii=False).encode()
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
PRETTY = json.dumps(ROWS, indent=2).encode()
CSV = pandas.DataFrame(ROWS).to_csv(index=False).encode()
BOM = codecs.BOM_UTF8


def parquet() -> bytes:
    file = io.BytesIO()
    pandas.DataFrame(ROWS).to_parquet(file)
    return file.getvalue()


def table(separator: str) -> bytes:
    return pandas.DataFrame(ROWS).to_csv(index=False, sep=separator).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("d.json", LIST), ("d.json", BOM + LIST), ("d.json", PRETTY), ("d.json", LINES), ("d.json", BOM + LINES),
        ("d.json", LINES.replace(b"\n", b"\r\n") + b"\r\n\r\n"), ("d.json", b"\n \n" + LIST),
        ("d.jsonl", LINES), ("d.jsonl", BOM + LINES), ("d.jsonl", LIST), ("d.jsonl", PRETTY), ("D.JSONL", LINES),
        ("d.ndjson", LINES), ("d.jsonl", LINES.decode().encode("utf-16")), ("d.json", LIST.decode().encode("utf-16")),
        ("d.csv", CSV), ("d.csv", BOM + CSV), ("d.csv", table(";")), ("d.csv", table("\t")), ("d.tsv", table("\t")),
        ("d.csv", CSV.decode().encode("utf-16")), ("d.parquet", parquet()), ("d.dat", parquet()),
        ("d.jsonl.gz", gzip.compress(LINES, mtime=0)), ("d.json.gz", gzip.compress(BOM + LIST, mtime=0)),
        ("d.csv.bz2", bz2.compress(CSV)), ("d.jsonl.xz", lzma.compress(LINES)),
        ("d.parquet.gz", gzip.compress(parquet(), mtime=0)),
        ("d.gz", gzip.compress(LINES, mtime=0)), ("d.jsonl", gzip.compress(LINES, mtime=0)),
        ("d", LINES), ("d.txt", LIST),
        ("d.jsonl.gz", LINES),
    ],
)  # fmt: skip
def test_the_same_rows_from_every_file(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert list(read_rows(str(tmp_path / name))) == ROWS


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("d.jsonl.zst", b"\x28\xb5\x2f\xfd1234", "Zstandard[^$]*zstd -d"),
        ("d.jsonl", b"\x28\xb5\x2f\xfd1234", "Zstandard[^$]*zstd -d"),
        ("d.zip", b"PK\x03\x04abc", "zip archive[^$]*unpack"),
        ("d.xlsx", b"PK\x03\x04abc", "spreadsheet[^$]*CSV"),
        ("d.arrow", b"ARROW1\0\0", "Arrow[^$]*to_parquet"),
        ("d.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer[^$]*git lfs pull"),
        ("d.json", b"<!doctype html><html>", "web page"),
        ("d.json", b'{"a": [1]}', "one object with the keys a[^$]*orient='records'"),
        ("d.json", b'{"data": [{"a": 1}]}', "one object with the keys data"),
        ("d.json", b"[1, 2]", "item 1 is a number"),
        ("d.json", b'[{"a": 1}, "x"]', "item 2 is text"),
        ("d.json", b"[" * 100_000, "not valid JSON"),
        ("d.jsonl", b"[" * 100_000, "not valid JSON"),
        ("d.json", b'[{"a": ' + b"1" * 5000 + b"}]", "not valid JSON"),
        ("d.jsonl", b'{"a": ' + b"1" * 5000 + b"}\n", "line 1: not valid JSON"),
        ("d.json", b'{"a": 1}\n{"a": \n', "line 2: not valid JSON"),
        ("d.jsonl", b'{"a": "\xff"}\n', "line 1: not UTF-8"),
        ("d.jsonl", b"", "holds no rows"),
        ("d.json", BOM, "holds no rows"),
        ("d.jsonl", b"\n\n", "holds no rows"),
        ("d.csv", b"", "holds no rows"),
        ("d.csv", b"a,b\n", "holds no rows"),
        ("d.csv", b"a,b\n\xe7,1\n", "not UTF-8 text[^$]*save it as UTF-8"),
        ("d.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], "broken or cut off"),
        ("d.jsonl.gz", b"\x1f\x8bxxxx", "broken or cut off"),
        ("d.jsonl.xz", lzma.compress(LINES)[:-9], "broken or cut off"),
        ("d.jsonl.bz2", b"BZhxxxx", "broken or cut off"),
        ("d.parquet", b"PAR1xxxx", "not a Parquet file"),
        ("d.txt", b"plain", "unknown file type '.txt'"),
        ("d", b"plain", "unknown file type ''"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(KiyasError, match=told):
        list(read_rows(str(tmp_path / name)))


def test_a_folder_and_an_absent_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(KiyasError, match="cannot read"):
            list(read_rows(str(path)))


@pytest.mark.parametrize("name", ["data/d.jsonl.bz2", "data/d.tsv", "data/d.ndjson", "data/d.zst", "data/d.zip"])
def test_a_file_is_not_a_name_on_the_hub(name: str) -> None:
    assert not is_hub_id(name)
