"""A run folder that a stranger made: every text in it is hostile. And a home of our own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hostile import ALL, STRINGS

from kiyas.runfolder.files import read_json, read_jsonl, write_json, write_jsonl
from synthetic import Row, make_run


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this user's settings."""
    folder = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "stranger"

    def spoil(row: Row) -> Row:
        tests = [{**test, "got": ALL, "stderr": ALL, "detail": ALL} for test in row["tests"]]
        return {**row, "program": ALL, "detail": ALL, "flags": [ALL], "tests": tests}

    # Colons make format strings of str.format, which make_run uses for programs only.
    arms = {ALL.replace("/", "|"): 0.3, STRINGS[8]: 0.5, "plain": 0.4}
    make_run(folder, rates=arms, seeds=(0, 1), steps=(20, 40), problems=6, change=spoil, imported=True)
    record = read_json(folder / "resolved.json")
    write_json(folder / "resolved.json", {**record, "name": ALL, "notes": [ALL, *STRINGS]})
    problems = read_jsonl(folder / "data" / "problems.jsonl")
    write_jsonl(folder / "data" / "problems.jsonl", [{**row, "title": ALL, "tags": [ALL]} for row in problems])
    return folder
