"""Run folders that version 0.1.0 made, before the records were typed, are still read and go on.

tests/fixtures/run-folders-0.1.0.tar.gz holds a practice run that was stopped before judging, an import, and the
findings of both as 0.1.0 wrote them.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from kiyas import report
from kiyas.analyse import Findings, analyse
from kiyas.pipeline import stages
from kiyas.pipeline.status import status
from kiyas.report import sentences
from kiyas.report.language import Language, languages
from kiyas.runfolder.files import read_json
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Kind, read_record

FOLDERS = Path(__file__).parent.parent / "fixtures" / "run-folders-0.1.0.tar.gz"
LATER = {"tests_passed_most", "remarks"}
"""fields that findings of that time did not have; remarks: the checklist says more since"""
TIMED = {"both_hours", "seeds_hours", "problems_hours"}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    with tarfile.open(FOLDERS) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def older(findings: Path) -> Any:
    """Findings of format 4, whose fields had other names."""
    value = read_json(findings)
    assert value["format"] == 4 and "same_arm" in value
    return Findings.from_json(value).to_json()


def without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: without(item, keys) for key, item in value.items() if key not in keys}
    return [without(item, keys) for item in value] if isinstance(value, list) else value


def test_a_stopped_run_goes_on(folders: Path) -> None:
    folder = RunDir(folders / "stopped")
    record = read_record(folder)
    assert record.kind is Kind.RUN and record.study is not None and record.declared_before
    assert "judge     to do" in status(folder)
    stages.run(record.study, folder, until=Stage.ANALYSE)
    expected = older(folders / "stopped-findings.json")
    expected["settings"]["training"]["load_in_4bit"] = False  # a later setting, at its default
    assert without(read_json(folder.findings), TIMED | LATER) == without(expected, TIMED | LATER)
    assert read_record(folder).declared_before


@pytest.mark.parametrize("name", ["stopped", "imported"])
def test_older_findings_still_make_a_report(folders: Path, name: str) -> None:
    findings = Findings.from_json(read_json(folders / f"{name}-findings.json"))
    assert {"one_seed", "nothing_missing"} <= {remark.code for remark in findings.remarks}
    for language in languages():
        text = report.text(findings, language=language)
        assert "{" not in text
        for remark in findings.remarks:
            assert "{" not in sentences.remark(remark, Language(language), findings)


def test_an_import_is_read(folders: Path) -> None:
    folder = RunDir(folders / "imported")
    record = read_record(folder)
    assert record.kind is Kind.IMPORT and record.study is None and record.declared_before is None
    assert without(analyse(folder.root).to_json(), LATER) == without(older(folders / "imported-findings.json"), LATER)
