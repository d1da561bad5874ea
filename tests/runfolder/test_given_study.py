"""What `kiyas run` is given: a study file, a run folder, or the copy of the study file in one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from kiyas.runfolder.paths import RunDir
from kiyas.runfolder.record import Kind, Record, given_study, paths_start, read_record, write_record
from kiyas.study.file import parse
from kiyas.types import KiyasError

STUDY = """\
name: own
model_name_or_path: practice
arms: {few: {dataset_name: data/few.jsonl}, less: {from: few, solutions: 1}}
training: {budget: {steps: 7}}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a study whose paths start elsewhere, with an override; from another folder than we are in."""
    (tmp_path / "home" / "data").mkdir(parents=True)
    (tmp_path / "home" / "data" / "few.jsonl").write_text("{}\n")
    folder = RunDir(tmp_path / "runs" / "own")
    folder.root.mkdir(parents=True)
    folder.study_copy.write_text(STUDY)
    study = parse(STUDY, "s.yaml", tmp_path / "home", ["seeds=2"])
    written = hashlib.sha256(STUDY.encode()).hexdigest()
    facts = {"study_file_sha256": written, "study_folder": str(tmp_path / "home")}
    write_record(folder, Record(kind=Kind.RUN, name="own", study=study, **facts))
    monkeypatch.chdir(tmp_path / "runs")
    return folder.root


@pytest.mark.parametrize("inside", ["", "study.yaml"])
def test_a_run_goes_on_with_its_own_study(run: Path, inside: str) -> None:
    given = given_study(Path("own") / inside, [])
    assert given.folder is not None and given.folder.root.resolve() == run and given.file == Path("own/study.yaml")
    assert given.study.seeds == 2 and given.study.training.budget.steps == 7
    assert given.study == parse(STUDY, "s.yaml", run.parent.parent / "home", ["seeds=2"])
    other = given_study(Path("own") / inside, ["name=other", "seeds=3"])
    assert other.folder is None and (other.study.name, other.study.seeds) == ("other", 3)
    with pytest.raises(KiyasError, match=r"resolved\.json: a mistake\n  override: seeds:"):
        given_study(Path("own") / inside, ["seeds=0"])


def test_an_edited_copy_is_read_where_the_run_was_started_and_other_files_where_they_are(run: Path) -> None:
    (run / "study.yaml").write_text(STUDY + "seeds: 5\n")
    given = given_study(run / "study.yaml", [])
    assert given.study == parse(STUDY + "seeds: 5\n", "s.yaml", run.parent.parent / "home") and given.study.seeds == 5
    assert given.folder is not None and given.folder.root == run
    assert given_study(run / "study.yaml", ["name=other"]).folder is None
    assert paths_start(run / "study.yaml") == run.parent.parent / "home", "also of a run that begins from this copy"
    assert paths_start(run / "mine.yaml") == run
    record = read_record(RunDir(run))
    write_record(RunDir(run), record.model_copy(update={"study_folder": None}))  # as before
    with pytest.raises(KiyasError, match="no data file"):
        given_study(run / "study.yaml", [])
    file = run.parent.parent / "home" / "mine.yaml"
    file.write_text(STUDY)
    given = given_study(file, ["seeds=4"])
    assert (given.study.seeds, given.folder, given.file) == (4, None, file)
    with pytest.raises(KiyasError, match="is a folder; give the study file inside it"):
        given_study(run.parent, [])


def test_the_study_of_an_import_is_its_file(run: Path) -> None:
    (run / "study.yaml").write_text(STUDY.replace("data/few.jsonl", str(run.parent.parent / "home/data/few.jsonl")))
    write_record(RunDir(run), Record(kind=Kind.IMPORT, name="own"))
    for path in (run, run / "study.yaml"):
        given = given_study(path, [])
        assert given.folder is None and given.study.seeds == 3
