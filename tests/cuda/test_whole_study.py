"""The presets themselves, from the Hub to the report, on a CUDA device that is not there.

Qwen's architecture, vocabulary, tokenizer and chat template, with two small layers of random weights. What is shortened
is what a vocabulary of 152,000 makes slow on a CPU: steps, samples of a step and of validation, seeds, answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import real_size
import tiny
from hub_server import serve
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import read_record
from kiyas.study.file import load

OnCuda = Callable[..., Any]
SHORT = [
    "training.budget={steps: 2}",
    "training.save_steps=1",
    "training.eval_steps=2",
    "training.logging_steps=1",
    "training.effective_batch_size=1",
    "training.max_tokens_per_pass=1024",
    "generation.max_new_tokens=3",
    "judge.isolation=best",
]
SMALL = ["seeds=1", "arms.one-solution.draws=1", "dataset.validation_fraction=0.02", "benchmarks.primary.problems=3"]


@dataclass(frozen=True)
class Whole:
    """A run that came to its end."""

    folder: RunDir
    arms: int
    seeds: int
    facts: dict[str, Any]
    """of the process: seconds and MB until the data were prepared, and until the report"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shared_data: Path, on_cuda: OnCuda) -> Callable[..., Whole]:
    model = tmp_path_factory.mktemp("model")
    tiny.with_real_vocabulary(model, shared_data / "qwen2.5-coder-tokenizer")

    def run(preset: str, card: str, more: list[str], **size: Any) -> Whole:
        overrides = [*SHORT, *more]
        with serve() as hub:
            real_size.fill(hub, model, shared_data, **size)
            facts = on_cuda("on_whole.preset", name=preset, endpoint=hub.endpoint, overrides=overrides, card=card)
        assert (facts["data"], facts["report"]) == (0, 0)
        study = load(Path(facts["folder"]) / "study.yaml", overrides)
        folder = RunDir(Path(facts["folder"]) / "runs" / preset)
        return Whole(folder, len(study.trained), len(study.seed_list), facts)

    return run


def counts(run: Whole, stage: Stage) -> dict[str, Any]:
    manifest = run.folder.manifest(stage)
    assert manifest is not None
    found: dict[str, Any] = manifest["counts"]
    return found


def looked_at(run: Whole, dtype: str) -> None:
    """Everything is there: trainings of all arms and seeds, answers of all checkpoints, a verdict each, a report."""
    trainings = run.arms * run.seeds
    assert read_record(run.folder).dtype == dtype
    trained = counts(run, Stage.TRAIN)
    assert (trained["trainings"], trained["checkpoints"]) == (trainings, 2 * trainings)
    assert not any(part["halvings"] for part in trained["layout"])
    log = [row for row in read_jsonl(run.folder.train_log) if row["kind"] == "train"]
    assert len(log) == 2 * trainings and all(9 < row["loss"] < 15 for row in log), "a random model knows nothing"
    problems = read_jsonl(run.folder.problems)
    answers = (1 + 2 * trainings) * len(problems)
    assert counts(run, Stage.GENERATE)["completions"] == counts(run, Stage.JUDGE)["programs"] == answers
    verdicts = counts(run, Stage.JUDGE)["verdicts"]
    assert sum(verdicts.values()) == answers and not verdicts.get("IE")
    assert (run.folder.report / "index.html").exists()
    assert run.facts["waits"] > 0 and run.facts["launches"] > 1000, "it ran on the device"


@pytest.mark.slow
def test_the_preset_in_small(whole: Callable[..., Whole]) -> None:
    run = whole("deep-vs-diverse", "a100-40", SMALL, rows=60, contests=range(380, 387), also=2)
    looked_at(run, "bfloat16")
    platforms = [row.get("benchmark", row["platform"]) for row in read_jsonl(run.folder.problems)]
    assert platforms == 3 * ["atcoder"] + 2 * ["humaneval"] + 2 * ["mbpp"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_preset_in_float16(whole: Callable[..., Whole]) -> None:
    looked_at(whole("deep-vs-diverse", "t4", SMALL, rows=60, contests=range(380, 387), also=2), "float16")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_preset_at_full_size(whole: Callable[..., Whole]) -> None:
    run = whole("deep-vs-diverse", "a100-40", ["seeds=3", "dataset.validation_fraction=0.002"])
    looked_at(run, "bfloat16")
    arms = counts(run, Stage.DATA)["arms"]
    assert 4000 < arms["deep"]["train"] < 5000 and 800 < arms["deep"]["groups"] <= 1000
    assert arms["one-solution"]["draws"] == 3
    assert run.facts["data MB"] < 1500
    problems = read_jsonl(run.folder.problems)
    assert len(problems) == 4 * len(real_size.CONTESTS) + 164 + 257
    assert all(len(row["tests"]) == 22 for row in problems if row["platform"] == "atcoder")
