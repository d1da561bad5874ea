"""Terminals and folders as they are: ASCII, closed, full, deleted. One line, never an error of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def kiyas(shell: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = f'"{sys.executable}" -m kiyas {shell}'
    given = {**os.environ, **environment}
    return subprocess.run(["sh", "-c", command], capture_output=True, cwd=folder, env=given, timeout=120)


@pytest.mark.parametrize("encoding", ["ascii", "cp1254", "latin-1", "utf-8"])
def test_json_is_json_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    done = kiyas("schema", tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0 and json.loads(done.stdout.decode(encoding))["title"] == "Study"


def test_text_that_a_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    done = kiyas("check 'şeker.yaml'", tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 1 and b"\\u015feker.yaml" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams(tmp_path: Path, closed: str) -> None:
    assert kiyas(f"schema {closed}", tmp_path).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_output_is_one_line(tmp_path: Path) -> None:
    done = kiyas("schema >/dev/full", tmp_path)
    assert done.returncode == 1 and done.stderr == b"kiyas: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("command", ["doctor", "schema", "check s.yaml", "status runs/x"])
def test_a_deleted_folder_is_one_line(tmp_path: Path, command: str) -> None:
    (gone := tmp_path / "gone").mkdir()
    shell = f'cd "{gone}" && rmdir "{gone}" && "{sys.executable}" -m kiyas {command}'
    done = subprocess.run(["sh", "-c", shell], capture_output=True, timeout=120)
    assert done.returncode == 1 and b"cannot be read" in done.stderr and b"hint: change to a folder" in done.stderr
