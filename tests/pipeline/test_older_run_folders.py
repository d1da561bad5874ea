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
from kiyas.runfolder import rows
from kiyas.runfolder.files import read_json, read_sealed
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Kind, read_record
from kiyas.types import KiyasError

FOLDERS = Path(__file__).parent.parent / "fixtures" / "run-folders-0.1.0.tar.gz"
LATER = {
    "tests_passed_most",
    "far_below",
    "lost_and_gained",
    "seed_sd",
    "seed_sd_most",
    "informative",
    "groups",
    "alone",
    "at_one_rate",
    "rate_chosen",
    "family",
    "metric",
    "other_k",
    "accepted",
    "tags",
    "numerical_floor",
    "batch_invariance",
    "remarks",
    "exact_p",
}
"""fields that findings of that time did not have; remarks: the checklist says more since"""
ON_TOP = {"data", "shared_rows"}
"""fields of the whole findings that came later"""
OTHER_RULE = {"overfits", "rise"}
"""fields that were read by another rule then"""
TIMED = {"both_hours", "seeds_hours", "problems_hours"}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    with tarfile.open(FOLDERS) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def older(findings: Path) -> Any:
    """Findings of format 4, whose fields had other names; what would decide is now worked out otherwise."""
    value = read_json(findings)
    assert value["format"] == 4 and "same_arm" in value
    found = Findings.from_json(value).to_json()
    for contrast in found["contrasts"]:
        contrast["needed"] = None
    return found


def known_then(findings: Any, ignored: set[str]) -> Any:
    """What is compared of findings."""
    return without({key: value for key, value in findings.items() if key not in ON_TOP}, ignored)


def without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: without(item, keys) for key, item in value.items() if key not in keys}
    return [without(item, keys) for item in value] if isinstance(value, list) else value


def test_a_stopped_run_goes_on(folders: Path) -> None:
    folder = RunDir(folders / "stopped")
    record = read_record(folder)
    assert record.kind is Kind.RUN and record.study is not None and record.declared_before
    assert "judge     to do" in str(status(folder))
    stages.run(record.study, folder, until=Stage.ANALYSE)
    expected = older(folders / "stopped-findings.json")
    expected["settings"]["training"]["load_in_4bit"] = False  # a later setting, at its default
    assert expected["settings"]["training"].pop("tuning_seeds") == 1, "a setting that is gone"
    ignored = TIMED | LATER | OTHER_RULE
    assert known_then(read_sealed(folder.findings), ignored) == known_then(expected, ignored)
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
    expected = older(folders / "imported-findings.json")
    ignored = LATER | OTHER_RULE
    found = analyse(folder.root).to_json()
    assert known_then(found, ignored) == known_then(expected, ignored)
    assert found["data"] == [], "nothing was measured here"


def test_an_older_run_decodes_again_when_it_is_generated_again(folders: Path) -> None:
    """What was finished stays as it is; with --redo generate the later setting takes effect."""
    folder = RunDir(folders / "stopped")
    study = read_record(folder).study
    assert study is not None and study.generation.batch_invariance == 100
    stages.run(study, folder, until=Stage.JUDGE)
    assert not folder.redecoded.exists() and not folder.redecoded_judgments.exists()
    before = {each.key: each.text for each in rows.completions(folder)}
    stages.run(study, folder, until=Stage.ANALYSE, redo=Stage.GENERATE)
    again = rows.redecoded(folder)
    problems = {key[1] for key in before}
    assert len(again) == min(100, 2 * len(problems)) == len(rows.redecoded_judgments(folder))
    assert folder.counts(Stage.GENERATE)["redecoded"] == len(again)
    assert {each.key for each in again} <= before.keys()
    assert sum(each.text == before[each.key] for each in again) > 0.95 * len(again), "in float32 hardly any differs"
    found = Findings.from_json(read_json(folder.findings)).numerical_floor
    assert found is not None and sum(each.answers for each in found.arms) == len(again)
    without = study.model_copy(update={"generation": study.generation.model_copy(update={"batch_invariance": 0})})
    with pytest.raises(KiyasError, match=r"generation.batch_invariance.*\n.*--redo generate"):
        stages.run(without, folder)
    stages.run(without, folder, until=Stage.ANALYSE, redo=Stage.GENERATE)
    assert not folder.redecoded.exists() and read_json(folder.findings)["numerical_floor"] is None
