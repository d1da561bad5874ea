"""A stage goes on with what it was begun with, and with the models of the run's start."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kiyas.interop.kept import FOLDER, Kept
from kiyas.judge import Problem, Tier
from kiyas.pipeline import identity
from kiyas.runfolder.files import read_jsonl, write_jsonl
from kiyas.runfolder.litter import remove
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import BaseModelFacts, Kind, Record, read_record, write_record
from kiyas.study.settings import Judge
from kiyas.train.stage import refuse_changed, state_path
from kiyas.types import KiyasError


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    found = RunDir(tmp_path / "run")
    base = BaseModelFacts(name_or_path="base", fingerprint="as it was")
    write_record(found, Record(kind=Kind.RUN, name="x", format=2, base=base))
    return found


def test_a_stage_that_was_begun_goes_on_with_what_it_read(folder: RunDir) -> None:
    identity.begin(Stage.JUDGE, folder, {"generate/completions.jsonl": "1"})
    identity.begin(Stage.JUDGE, folder, {"generate/completions.jsonl": "2"})  # nothing was done yet
    folder.stage(Stage.JUDGE).mkdir()
    identity.begin(Stage.JUDGE, folder, {"generate/completions.jsonl": "2"})
    with pytest.raises(
        KiyasError, match=r"completions.jsonl changed after the stage 'judge' had used it\n.*--redo judge"
    ):
        identity.begin(Stage.JUDGE, folder, {"generate/completions.jsonl": "3"})
    remove(folder.stage(Stage.JUDGE))
    identity.begin(Stage.JUDGE, folder, {"generate/completions.jsonl": "3"})
    assert read_record(folder).begun == identity.Begun(stage="judge", inputs={"generate/completions.jsonl": "3"})


def test_a_model_that_changes_while_it_is_used_is_noticed(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"print": "as it was"}

    def base(*_: Any) -> BaseModelFacts:
        return BaseModelFacts(name_or_path="base", fingerprint=now["print"])

    monkeypatch.setattr(identity, "_base", base)
    study: Any = SimpleNamespace(arms={})
    identity.refuse_other_models(study, folder, Stage.TRAIN)
    now["print"] = "another"
    identity.refuse_other_models(study, folder, Stage.JUDGE)
    for stage in (Stage.TRAIN, Stage.GENERATE):
        with pytest.raises(KiyasError, match=rf"changed while the stage '{stage}' used it\n.*--redo {stage}"):
            identity.refuse_other_models(study, folder, stage)


def test_a_checkpoint_that_no_part_saved_is_refused(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiyas.model.checkpoints.state_notes", lambda path: notes.get(path))
    notes: dict[Path, dict[str, Any]] = {state_path(folder, 0): {"saved": {}}}
    refuse_changed(folder, ["deep"], [0])
    (folder.checkpoints / "deep" / "seed-0" / "step-000001").mkdir(parents=True)
    with pytest.raises(KiyasError, match="step-000001 was not made by this run"):
        refuse_changed(folder, ["deep"], [0])
    notes.clear()  # 0.1.0 noted none
    refuse_changed(folder, ["deep"], [0])


def test_an_edited_verdict_that_was_kept_is_judged_again(
    folder: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kiyas.interop.kept.choose", lambda *_: Tier.STANDARD)
    problem = Problem("a", ())
    with Kept(folder, Judge()) as kept:
        kept.add(problem, "1", {"verdict": "AC"})
        kept.add(problem, "2", {"verdict": "WA"})
    path = folder.root / FOLDER / "verdicts.jsonl"
    path.write_text(path.read_text().replace('"WA"', '"AC"'))
    with Kept(folder, Judge()) as kept:
        assert kept.verdict(problem, "1") == {"verdict": "AC"} and kept.verdict(problem, "2") is None
    assert "verdicts.jsonl was changed" in capsys.readouterr().err and len(read_jsonl(path)) == 1


def test_what_was_copied_before_is_not_mixed_in(folder: RunDir) -> None:
    from kiyas.interop import adapters

    stale = folder.checkpoints / "deep" / "seed-0" / "step-000100"
    stale.mkdir(parents=True)
    write_jsonl(stale / "x.jsonl", [])
    with pytest.raises(KiyasError, match="no PEFT checkpoint"):
        adapters.adopt("deep", folder.root / "nothing", folder, "base")
    assert stale.exists(), "nothing is removed for a source that is not there"
