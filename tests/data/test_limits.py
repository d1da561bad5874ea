"""Every limit of study/limits.py: at it a file is read, above it refused by name, and memory is that of one row."""

from __future__ import annotations

import dataclasses
import gzip
import json
import lzma
import re
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from kiyas.data.arms import examples
from kiyas.data.benchmarks import read
from kiyas.data.chat import Chat
from kiyas.data.hub import HubRows
from kiyas.data.model_files import refuse_strange
from kiyas.data.row_files import read_rows
from kiyas.data.row_formats import _chat_in
from kiyas.interop import inspect_logs
from kiyas.interop.files import File, Notes, Table, tables
from kiyas.interop.reading import read as read_sources
from kiyas.model.checkpoints import state_notes
from kiyas.runfolder import peft
from kiyas.runfolder.files import each_row, read_json, read_sealed
from kiyas.runfolder.paths import RunDir
from kiyas.study import file, limits
from kiyas.study.settings import Benchmark, Dataset
from kiyas.types import KiyasError

NAMED = {name: value for name, value in vars(limits).items() if isinstance(value, limits.Limit)}


def at_most(monkeypatch: pytest.MonkeyPatch, name: str, most: int) -> None:
    monkeypatch.setattr(limits, name, dataclasses.replace(NAMED[name], most=most))


def row(text: str = "c", **more: Any) -> bytes:
    return json.dumps({"prompt": "p", "completion": text, **more}).encode() + b"\n"


def arm(path: Path) -> int:
    return len(examples(read_rows(str(path)), Dataset(validation_fraction=0), "x", str(path)).examples)


def refused(path: Path, told: str) -> str:
    with pytest.raises(KiyasError, match=told) as caught:
        arm(path)
    assert str(path) in str(caught.value) and "limit is" in str(caught.value) and "docs/limits.md" in caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("d.jsonl", b'{"prompt": "p", "completion": "', b'"}'),
        ("d.json", b'[{"prompt": "p", "completion": "', b'"}]'),
        ("d.csv", b'prompt,completion\np,"', b'"\n'),
        ("d.csv", b'prompt,completion\np,"\n', b'"\n'),
        ("d.txt", b"{", b"}"),
    ],
)
def test_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, start: bytes, end: bytes) -> None:
    at_most(monkeypatch, "ROW", 5_000_000)
    (tmp_path / name).write_bytes(start + b"c" * 6_000_000 + end)
    refused(tmp_path / name, "a row has more than 5 MiB")
    if name != "d.txt":
        (tmp_path / name).write_bytes(start + b"c" * 3_000_000 + end)
        assert arm(tmp_path / name) == 1


def test_a_row_in_many_lines_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(monkeypatch, "ROW", 1_000_000)
    (tmp_path / "d.csv").write_bytes(b'prompt,completion\np,"' + b"c\n" * 600_000 + b'"\n')
    refused(tmp_path / "d.csv", "a row has more than")
    (tmp_path / "d.csv").write_bytes(b"prompt,completion\n" + b"p,c\n" * 600_000)
    assert next(iter(read_rows(str(tmp_path / "d.csv")))) == {"prompt": "p", "completion": "c"}


def test_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(monkeypatch, "TEXT", 100)
    (tmp_path / "d.jsonl").write_bytes(row() + row("c" * 100))
    assert arm(tmp_path / "d.jsonl") == 2
    (tmp_path / "d.jsonl").write_bytes(row() + row("c" * 101))
    assert "row 2" in refused(tmp_path / "d.jsonl", "a prompt or completion has 101 characters")
    (tmp_path / "d.jsonl").write_bytes(row(group="g" * 101))
    refused(tmp_path / "d.jsonl", "a prompt or completion has 101 characters")


def test_rows_and_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(monkeypatch, "ROWS", 5)
    at_most(monkeypatch, "COLUMNS", 4)
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"".join(row(text) for text in "abcde"))
    assert arm(path) == 5
    path.write_bytes(b"".join(row(text) for text in "abcdef"))
    refused(path, "a data set has more than 5 rows")
    path.write_bytes(row(x=1, y=1) + row(x=1))
    assert arm(path) == 2
    path.write_bytes(row(x=1, y=1) + row(z=1))
    refused(path, "a data set has 5 columns")
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["p"] * 6, "completion": ["c"] * 6}), tmp_path / "d.parquet")
    refused(tmp_path / "d.parquet", "a data set has 6 rows")


def test_rows_of_the_hub_are_made_a_part_at_a_time() -> None:
    class Part:
        largest = 0

        def __len__(self) -> int:
            return 2500

        def select(self, rows: range) -> Part:
            Part.largest, self.rows = max(Part.largest, len(rows)), rows
            return self

        def to_list(self) -> list[dict[str, Any]]:
            return [{"n": n} for n in self.rows]

    alone, several = HubRows({"train": Part()}), HubRows({"train": Part(), "test": Part()})
    assert [row["n"] for row in alone] == list(range(2500)) == [row["n"] for row in alone]
    assert [row["split"] for row in several] == ["train"] * 2500 + ["test"] * 2500 and len(several) == 5000
    assert Part.largest == 1000


@pytest.mark.parametrize("packed", [gzip.compress, lzma.compress])
def test_what_a_packed_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: Any) -> None:
    at_most(monkeypatch, "UNPACKED", 3_000_000)
    path = tmp_path / "d.jsonl.gz"
    path.write_bytes(packed(row("c" * 1000) * 2000))
    assert arm(path) == 2000
    path.write_bytes(packed(row("c" * 1000) * 3000))
    refused(path, "an unpacked file has more than 3 MiB")


def test_a_bomb_takes_the_memory_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(monkeypatch, "ROW", 2_000_000)
    for packed in (gzip.compress, lzma.compress):
        (tmp_path / "d.jsonl").write_bytes(packed(b'{"prompt": "' + b" " * 30_000_000))
        tracemalloc.start()
        refused(tmp_path / "d.jsonl", "line 1: a row has more than")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 15_000_000


def test_an_xz_file_that_wants_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(monkeypatch, "DICTIONARY", 20 << 20)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 32 << 20}]
    (tmp_path / "d.jsonl.xz").write_bytes(lzma.compress(row() * 2, filters=filters))
    refused(tmp_path / "d.jsonl.xz", "the xz dictionary has more than 20 MiB")
    (tmp_path / "d.jsonl.xz").write_bytes(lzma.compress(row()) + b"\0" * 8 + lzma.compress(row("d")))
    assert arm(tmp_path / "d.jsonl.xz") == 2, "joined files are read to their end"


def test_a_cell_that_a_dictionary_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of long cells in a file of some KB: equal texts are kept once."""
    at_most(monkeypatch, "UNPACKED", 15_000_000)
    text = pyarrow.array(["c" * 50_000])
    for rows in (200, 400):
        cells = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), text)
        table = pyarrow.table({"prompt": [str(i) for i in range(rows)], "completion": cells})
        pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
        assert (tmp_path / "d.parquet").stat().st_size < 200_000
        if rows == 200:
            assert arm(tmp_path / "d.parquet") == rows
    refused(tmp_path / "d.parquet", "an unpacked file has more than 14 MiB")


def test_a_column_of_a_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(monkeypatch, "PAGE", 100_000)
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["p"], "completion": ["c" * 200_000]}), tmp_path / "d.parquet")
    refused(tmp_path / "d.parquet", "a column of a Parquet row group has [\\d,]+ bytes")
    at_most(monkeypatch, "PAGE", 10**9)
    at_most(monkeypatch, "ROW", 100_000)
    refused(tmp_path / "d.parquet", "a row has [\\d,]+ bytes")


def test_a_study_file_and_a_tokenizer(tmp_path: Path) -> None:
    study, tokenizer = tmp_path / "study.yaml", tmp_path / "tokenizer.json"
    for path, limit in ((study, limits.STUDY_FILE), (tokenizer, limits.TOKENIZER)):
        with path.open("wb") as sparse:
            sparse.truncate(limit.most + 1)
    with pytest.raises(KiyasError, match="a study file has 1 MiB; the limit is 1 MiB"):
        file.load(study)
    with pytest.raises(KiyasError, match="a tokenizer file has 512 MiB"):
        Chat.load(tmp_path)


def test_problems_are_read_from_files_only() -> None:
    for path, what in (("/dev/zero", "a device"), ("/", "a folder")):
        with pytest.raises(KiyasError, match=f"cannot read {path}: it is {what}"):
            read(Benchmark(dataset=path))
        with pytest.raises(KiyasError, match=f"cannot read {path}: it is {what}"):
            list(read_rows(path))


def test_the_document_lists_every_limit_and_its_number() -> None:
    text = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `([A-Z_]+)` \| [^|]+ \| ([^|]+?) \|", text, re.M))
    assert listed == {name: limits.in_words(limit.most, limit.unit) for name, limit in NAMED.items()}


# -- what is imported, a model's folder, a run folder -----------------------------------------------------------------


def imported(path: Path, named: bool = True) -> tuple[list[Table], Notes]:
    notes = Notes()
    return tables(File(path, named, ()), notes), notes


@pytest.mark.parametrize(("name", "packed"), [("r.jsonl", bytes), ("r.jsonl.gz", gzip.compress)])
def test_lines_of_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, packed: Any) -> None:
    path = tmp_path / name
    at_most(monkeypatch, "ROW", 2000)
    at_most(monkeypatch, "RESULTS", 1_000_000)
    path.write_bytes(packed(row("c" * 1000) * 900))
    found, _ = imported(path)
    assert len(found[0]) == 900
    with pytest.raises(KiyasError, match=r"a file of results or a log has more than .*; the limit is"):
        path.write_bytes(packed(row("c" * 1000) * 1100))
        imported(path)
    path.write_bytes(packed(row() + b'{"a": "' + b" " * 30_000_000))
    tracemalloc.start()
    with pytest.raises(KiyasError, match=rf"{name}, line 2: a row has more than 2,000 bytes; the limit is"):
        imported(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize(
    ("name", "limit"), [("r.json", "DOCUMENT"), ("r.json.gz", "DOCUMENT"), ("r.csv.gz", "RESULTS")]
)
def test_a_document_of_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: str) -> None:
    at_most(monkeypatch, limit, 2_000_000)
    pack = gzip.compress if name.endswith("gz") else bytes
    (tmp_path / name).write_bytes(pack(b'[{"a": 1}]'))
    assert imported(tmp_path / name)
    (tmp_path / name).write_bytes(pack(b"[" + b" " * 30_000_000))
    tracemalloc.start()
    with pytest.raises(
        KiyasError, match=rf"{name}: .* has more than 2 MiB; the limit is 2 MiB|more than 1 MiB"
    ) as said:
        imported(tmp_path / name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000 and "docs/limits.md" in said.value.hint


def test_a_large_file_that_was_only_found_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_most(monkeypatch, "RESULTS", 100)
    (tmp_path / "a.jsonl").write_bytes(row() * 10)
    notes = Notes()
    read_sources([tmp_path], None, RunDir(tmp_path / "run"), {}, [], notes)
    assert any("left out: a file of results or a log has more than 100 bytes" in line for line in notes.lines())


def test_nested_results_and_a_million_keys(tmp_path: Path) -> None:
    for name in ("r.json", "r.jsonl"):
        (tmp_path / name).write_bytes(b'{"a": ' * 100_000 + b"1" + b"}" * 100_000 + b"\n")
        with pytest.raises(KiyasError, match="not valid JSON"):
            imported(tmp_path / name)
    (tmp_path / "r.jsonl").write_bytes(b"{" + b", ".join(b'"%d": 1' % i for i in range(100_000)) + b"}\n")
    assert len(imported(tmp_path / "r.jsonl")[0][0][0][1]) == 100_000


def test_the_parts_of_an_inspect_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("inspect_ai")
    at_most(monkeypatch, "RESULTS", 1_000_000)
    with zipfile.ZipFile(tmp_path / "a.eval", "w", zipfile.ZIP_DEFLATED) as packed:
        for part in range(3):
            packed.writestr(f"samples/{part}.json", b" " * 400_000)
    with pytest.raises(KiyasError, match="a file of results or a log has 1 MiB"):
        inspect_logs.load(tmp_path / "a.eval")


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja"]
)
def test_a_model_folder(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as sparse:
        sparse.truncate(limits.MODEL_FILE.most + 1)
    with pytest.raises(KiyasError, match=f"{name}: a model's configuration has 16 MiB; the limit is"):
        refuse_strange(tmp_path)


def test_an_adapters_configuration(tmp_path: Path) -> None:
    with (tmp_path / "adapter_config.json").open("wb") as sparse:
        sparse.truncate(2 << 30)
    with pytest.raises(KiyasError, match=r"adapter_config.json: a model's configuration has 2,048 MiB"):
        peft.read_adapter(tmp_path)


def test_a_header_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as sparse:
        sparse.write((limits.HEADER.most + 1).to_bytes(8, "little"))
        sparse.truncate(limits.HEADER.most + 100)
    for read_header in (lambda: peft.header(path), lambda: refuse_strange(tmp_path), lambda: state_notes(path)):
        with pytest.raises(
            KiyasError, match=r"the header of a safetensors file has (more than )?32 MiB; the limit is 32 MiB"
        ):
            read_header()
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    for read_header in (lambda: peft.header(path), lambda: refuse_strange(tmp_path)):
        with pytest.raises(KiyasError, match="the header of a safetensors file has more than 32 MiB"):
            read_header()
    with pytest.raises(KiyasError, match="is broken"):
        state_notes(path)


def test_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(monkeypatch, "LINE", 1000)
    at_most(monkeypatch, "DOCUMENT", 1000)
    path = tmp_path / "completions.jsonl"
    path.write_bytes(row("c" * 900) + row("c" * 30_000_000))
    rows = each_row(path)
    assert next(rows)["completion"] == "c" * 900
    tracemalloc.start()
    with pytest.raises(KiyasError, match=r"completions.jsonl, line 2: a line has more than 1,000 bytes"):
        next(rows)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    (tmp_path / "findings.json").write_bytes(b"[" + b" " * 1000 + b"]")
    for read_one in (read_json, read_sealed):
        with pytest.raises(
            KiyasError, match=r"findings.json: a JSON document has 1,002 bytes; the limit is 1,000 bytes"
        ):
            read_one(tmp_path / "findings.json")


def test_a_long_text_is_not_searched_for_a_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(monkeypatch, "TEXT", 60)
    chat = "[{'role': 'user', 'content': 'q'}, {'role': 'assistant', 'content': 'a'}]"
    assert _chat_in(chat) == chat and isinstance(_chat_in("[{'role': 'user', 'content': 'q'}]"), list)
