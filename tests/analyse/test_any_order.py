"""Verdicts come in any order: from several machines, and after a kill."""

from __future__ import annotations

import random
from pathlib import Path

from kiyas.analyse import analyse
from kiyas.runfolder.files import read_jsonl, write_jsonl
from kiyas.runfolder.paths import RunDir
from synthetic import make_run


def test_findings_do_not_depend_on_the_order_of_verdicts(tmp_path: Path) -> None:
    folder = RunDir(make_run(tmp_path / "run", problems=9))
    found = analyse(folder.root).to_json()
    rows = read_jsonl(folder.judgments)
    random.Random(19).shuffle(rows)
    write_jsonl(folder.judgments, rows)
    assert analyse(folder.root).to_json() == found
