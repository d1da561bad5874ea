"""kill -9 anywhere, then the same command: the same findings as an undisturbed run, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiyas import cli
from kiyas.pipeline import identity, stages
from kiyas.runfolder.files import read_json, read_jsonl, sha256
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.peft import WEIGHTS
from kiyas.runfolder.record import BaseModelFacts, FileFacts, read_record, write_record
from kiyas.study.settings import Study
from kiyas.types import KiyasError

SMALL = [
    "dataset.split_column=none",
    "dataset.validation_fraction=0.01",
    "training.budget.steps=12",
    "training.save_steps=4",
    "training.eval_steps=4",
    "training.logging_steps=3",
    "training.effective_batch_size=4",
    "peft.lora_dropout=0.1",
    "generation.max_new_tokens=60",
    "generation.temperature=0.7",
    "generation.max_rows=14",
    "benchmarks.primary.problems=12",
    "seeds=2",
]


def command(runs: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "kiyas", "demo", "--runs", str(runs), *SMALL, *more]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    runs = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(runs), check=True, capture_output=True)
    return RunDir(runs / "practice")


def kill_when(ready: Callable[[RunDir], bool], runs: Path) -> None:
    """Starts the command, waits until `ready`, kills it and everything it started."""
    process = subprocess.Popen(
        command(runs), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 200
    while not ready(RunDir(runs / "practice")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def rows(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def judged(folder: RunDir) -> list[dict[str, Any]]:
    """Judgments without what may differ: times, memory, and the order in which workers ended."""
    keep = ("arm", "seed", "step", "problem_id", "sample", "program", "verdict", "passed", "total")
    return sorted(
        ({key: row[key] for key in keep} for row in read_jsonl(folder.judgments)),
        key=lambda row: json.dumps(row, sort_keys=True),
    )


def findings(folder: RunDir) -> dict[str, Any]:
    """All but what is a matter of the clock: when it was made, and how many hours more would take."""
    found = read_json(folder.findings)
    assert isinstance(found, dict)
    for each in found["contrasts"]:
        for key in ("problems_hours", "seeds_hours", "both_hours"):
            (each["needed"] or {}).pop(key, None)
    return {key: value for key, value in found.items() if key not in ("created", "settings", "sha256")}


@pytest.mark.slow  # tests/faults has a short one
def test_killed_in_every_stage_and_gone_on(tmp_path: Path, undisturbed: RunDir) -> None:
    """Training after the first save, generation within a part, judging within the rows."""
    kill_when(lambda run: len(list(run.checkpoints.glob("*/seed-0/step-000004/*"))) > 1, tmp_path)
    kill_when(lambda run: any(rows(p) for p in (run.stage(Stage.GENERATE) / "state").glob("part-*.jsonl")), tmp_path)
    kill_when(lambda run: rows(run.judgments) > 5, tmp_path)
    folder = RunDir(tmp_path / "practice")
    with folder.judgments.open("ab") as file:
        file.write(b'{"arm": "deep", "torn')
    subprocess.run(command(tmp_path), check=True, capture_output=True)
    assert read_jsonl(folder.train_log) == read_jsonl(undisturbed.train_log)
    for path in undisturbed.checkpoints.rglob(WEIGHTS):
        assert sha256(path) == sha256(folder.checkpoints / path.relative_to(undisturbed.checkpoints))
    assert read_jsonl(folder.completions) == read_jsonl(undisturbed.completions)
    assert judged(folder) == judged(undisturbed)
    assert findings(folder) == findings(undisturbed)


def test_seeds_change_the_numbers(undisturbed: RunDir) -> None:
    log = [r for r in read_jsonl(undisturbed.train_log) if r["kind"] == "train" and r["step"] == 3]
    assert len({row["loss"] for row in log}) == 4


def test_another_study_file_never_reuses_what_it_would_falsify(undisturbed: RunDir) -> None:
    resolved = Study.model_validate(read_json(undisturbed.resolved)["study"])
    changed = resolved.model_copy(
        update={"training": resolved.training.model_copy(update={"learning_rate": 1.0, "weight_decay": 0.5})}
    )
    with pytest.raises(KiyasError, match=r"changed: training.learning_rate, training.weight_decay[^-]*--redo train"):
        stages.run(changed, undisturbed)
    generation = resolved.generation.model_copy(update={"temperature": 0.5})
    with pytest.raises(KiyasError, match="--redo generate to do generate, judge, analyse, report again"):
        stages.run(resolved.model_copy(update={"generation": generation}), undisturbed)


def test_a_result_that_was_edited_is_found_out(undisturbed: RunDir) -> None:
    resolved = Study.model_validate(read_json(undisturbed.resolved)["study"])
    before = undisturbed.completions.stat()
    text = undisturbed.completions.read_text()
    undisturbed.completions.write_text(text.replace("input", "tupni", 1))
    os.utime(undisturbed.completions, ns=(before.st_atime_ns, before.st_mtime_ns))  # as large and as old as before
    try:
        with pytest.raises(KiyasError, match=r"generate/completions.jsonl was changed or damaged\n.*--redo generate;"):
            stages.run(resolved, undisturbed)
    finally:
        undisturbed.completions.write_text(text)


def test_a_changed_comparison_is_analysed_again_and_said(tmp_path: Path, undisturbed: RunDir) -> None:
    import shutil

    folder = RunDir(tmp_path / "practice")
    shutil.copytree(undisturbed.root, folder.root)
    resolved = Study.model_validate(read_json(folder.resolved)["study"])
    compare = resolved.compare.model_copy(update={"select": "validation"})
    stages.run(resolved.model_copy(update={"compare": compare}), folder)
    assert "compare.select was changed" in read_json(folder.resolved)["notes"][0]
    assert read_json(folder.findings)["select"] == "validation"
    assert sha256(folder.judgments) == sha256(undisturbed.judgments)


def test_redo_never_deletes_before_everything_else_agrees(tmp_path: Path, undisturbed: RunDir) -> None:
    before = sha256(undisturbed.judgments)
    assert cli.main(command(undisturbed.root.parent, "--redo", "judge", "peft.r=8")[3:]) == 1
    assert sha256(undisturbed.judgments) == before
    precious = tmp_path / "practice" / "data" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    assert cli.main(command(tmp_path, "--redo", "data")[3:]) == 1
    assert precious.read_text() == "mine"


def test_another_base_under_the_same_name_is_found_out(
    undisturbed: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = identity.model_facts

    def other(root: Path, name: str, known: BaseModelFacts | None = None) -> BaseModelFacts:
        """Another chat template, and the same weights."""
        facts = real(root, name, known)
        files = {**(facts.files or {}), "chat_template.jinja": FileFacts(bytes=1, mtime_ns=1, sha256="0")}
        return facts.model_copy(update={"files": files})

    monkeypatch.setattr(identity, "model_facts", other)
    assert cli.main(command(undisturbed.root.parent)[3:]) == 1
    assert "practice is not the model that" in capsys.readouterr().err


def test_layout_settings_may_change(undisturbed: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command(undisturbed.root.parent, "training.workers=1", "training.max_tokens_per_pass=999")[3:]) == 0
    assert cli.main(command(undisturbed.root.parent)[3:]) == 0


def test_redo_does_one_stage_again(tmp_path: Path, undisturbed: RunDir) -> None:
    import shutil

    folder = RunDir(tmp_path / "practice")
    shutil.copytree(undisturbed.root, folder.root)
    assert cli.main(command(tmp_path, "--redo", "judge")[3:]) == 0
    assert judged(folder) == judged(undisturbed)


def test_from_python(undisturbed: RunDir, tmp_path: Path) -> None:
    import kiyas

    run = kiyas.Run(undisturbed.root)
    assert "differ" in run.conclusion or "solves more" in run.conclusion or "difference" in run.conclusion
    assert len(run.judgments) == 13 * 12 and set(run.judgments["arm"]) == {"base", "deep", "diverse"}
    assert set(run.curves["kind"]) == {"train", "validation"}
    assert str(run).endswith(run.conclusion)
    with pytest.raises(kiyas.KiyasError, match="is not a run folder"):
        kiyas.Run(tmp_path)
    assert sorted(dir(kiyas)) == sorted(kiyas.__all__)


def test_what_is_only_said_of_the_data_costs_no_work() -> None:
    from kiyas.pipeline.identity import _falsified

    assert _falsified("arms.deep.newest") is _falsified("arms.deep.expect.problems") is Stage.ANALYSE
    assert _falsified("arms.deep.dataset_name") is _falsified("training.max_length") is Stage.DATA
    assert _falsified("training.logging_steps") is _falsified("training.learning_rate") is Stage.TRAIN


def test_a_moved_folder_goes_on_and_its_sources_may_not_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from test_cli import study_file

    (tmp_path / "a").mkdir()
    file = study_file(tmp_path / "a")
    assert cli.main(["run", str(file), "--runs", str(tmp_path / "a" / "runs"), "--until", "data"]) == 0
    shutil.move(tmp_path / "a" / "runs", tmp_path / "moved")
    again = ["run", str(file), "--runs", str(tmp_path / "moved"), "--until", "data"]
    assert cli.main(again) == 0
    rows = tmp_path / "a" / "a.jsonl"
    text = rows.read_text()
    rows.write_text(text + text.splitlines()[0] + "\n")
    assert cli.main(again) == 1
    assert "a.jsonl changed after the stage 'data' had used it" in capsys.readouterr().err
    rows.unlink()
    assert cli.main(again) == 1
    assert "no data file 'a.jsonl'" in capsys.readouterr().err


def test_other_versions_are_said_in_the_report(tmp_path: Path, undisturbed: RunDir) -> None:
    import shutil

    folder = RunDir(tmp_path / "practice")
    shutil.copytree(undisturbed.root, folder.root)
    record = read_record(folder)
    write_record(folder, record.model_copy(update={"packages": {**record.packages, "torch": "2.11.0"}}))
    assert cli.main(command(tmp_path)[3:]) == 0
    assert read_record(folder).notes == (), "nothing was computed with the other version"
    assert cli.main(command(tmp_path, "--redo", "generate", "--until", "generate")[3:]) == 0
    assert any("torch" in note and "instead of 2.11.0" in note for note in read_record(folder).notes)
