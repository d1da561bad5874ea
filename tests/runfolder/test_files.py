"""The run folder: whole files or none, torn lines, one process at a time, a full disk."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kiyas.runfolder.files import (
    JsonlWriter,
    Tail,
    atomic_text,
    read_json,
    read_jsonl,
    refuse_not_a_file,
    seal_older,
    write_jsonl,
)
from kiyas.runfolder.manifests import finish
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Kind, Record, write_record
from kiyas.types import AdapterId, KiyasError


@pytest.mark.parametrize("torn", [b'{"a": 3', b'{"a": 3}', b"\xff", b'{"a": "' + b"x" * 200_000])
def test_a_torn_last_line_is_owed_again(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n' + torn)
    assert [row["a"] for row in read_jsonl(path)] == [1, 2]
    seal_older(path)
    with JsonlWriter(path) as writer:
        writer.write({"a": 4})
    assert [row["a"] for row in read_jsonl(path)] == [1, 2, 4]
    assert path.read_bytes().count(b"\n") == 3


def test_a_file_that_is_only_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a"')
    with JsonlWriter(path) as writer:
        writer.write({"a": 1})
    assert read_jsonl(path) == [{"a": 1}]


def test_a_broken_line_inside_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\nnot json\n{"a": 2}\n')
    with pytest.raises(KiyasError, match="line 2"):
        read_jsonl(path)


def test_writes_are_whole_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "value.json"
    atomic_text(path, "old")

    def fails(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(KiyasError, match="the disk is full"):
        atomic_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_while_appending(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    writer = JsonlWriter.__new__(JsonlWriter)
    writer.path, writer._file = tmp_path / "x", full.open("ab")
    with pytest.raises(KiyasError, match="the disk is full"):
        writer.write({"a": 1})
    writer._file.raw.close()  # what is in its buffer would be written when it goes, and fail again


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    code = (
        "from kiyas.runfolder.paths import RunDir; from pathlib import Path\n"
        f"with RunDir(Path({str(tmp_path)!r})).lock(): pass"
    )
    with RunDir(tmp_path).lock():
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert second.returncode != 0 and "another process" in second.stderr
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_dropping_a_stage_drops_all_later_ones(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    write_record(folder, Record(kind=Kind.RUN, name="x"))
    for stage in Stage:
        folder.stage(stage).mkdir()
        finish(folder, stage, {}, {}, 1.0)
    folder.drop(Stage.GENERATE)
    assert [stage for stage in Stage if folder.manifest(stage)] == [Stage.DATA, Stage.TRAIN]


def test_adapter_folders_read_back() -> None:
    for id in (AdapterId("deep", "", 3, 200), AdapterId("deep", "lr-0.1", 0, 1_000_000)):
        assert AdapterId.parse_folder(id.folder) == id
        assert AdapterId.of(json.loads(json.dumps(id.fields()))) == id
    with pytest.raises(ValueError, match="not a checkpoint folder"):
        AdapterId.parse_folder("deep/step-1")


def test_jsonl_keeps_all_text(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\n\r\x00 ğüş \U0001f600"}, {"text": "</script>"}]
    write_jsonl(tmp_path / "x.jsonl", rows)
    assert read_jsonl(tmp_path / "x.jsonl") == rows


def test_what_is_not_a_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    pipe, listening, link = tmp_path / "pipe", tmp_path / "s", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listening))
        for path, what in [
            (pipe, "a pipe"),
            (link, "a pipe"),
            (tmp_path, "a folder"),
            (Path("/dev/zero"), "a device"),
            (listening, "a socket"),
        ]:
            with pytest.raises(KiyasError, match=f"cannot read {path}: it is {what}"):
                refuse_not_a_file(path)
            with pytest.raises(KiyasError, match=f"it is {what}"):
                read_json(path)
    refuse_not_a_file(tmp_path / "absent")
    (tmp_path / "f").touch()
    refuse_not_a_file(tmp_path / "f")


def test_rows_that_another_process_appends_are_read_once(tmp_path: Path) -> None:
    file, tail = tmp_path / "log.jsonl", Tail()
    assert tail.rows(file) == []
    file.write_text('{"n": 1}\n{"n": ')
    assert tail.rows(file) == [{"n": 1}] and tail.rows(file) == []
    file.write_text('{"n": 1}\n{"n": 2}\n{"n": 3}\n')
    assert tail.rows(file) == [{"n": 2}, {"n": 3}]
    file.write_text('{"n": 4}\n')
    assert tail.rows(file) == [{"n": 4}], "what was cut begins anew"
    file.write_text('{"name": 5}\n{"n": 6}\n')
    assert tail.rows(file) == [{"name": 5}, {"n": 6}], "also where it has grown since"
    (new := tmp_path / "new").write_text('{"name": 7}\n{"n": 8}\n{"n": 9}\n')
    new.replace(file)
    assert tail.rows(file) == [{"name": 7}, {"n": 8}, {"n": 9}], "and what was replaced"
    file.unlink()
    assert tail.rows(file) == []
