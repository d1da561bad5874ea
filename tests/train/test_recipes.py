"""Arms with recipes of their own, and grids of learning rates: in one stack, each as if it were trained alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_contract import STEPS, VALIDATION, close, losses, study

import tiny
from kiyas.pipeline import stages
from kiyas.pipeline.prepare import prepare
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import Study
from kiyas.train.loop import JointTraining, Task
from kiyas.types import AdapterId, KiyasError

OWN = {
    "learning_rate": 1e-3,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.3,
    "weight_decay": 0.3,
    "adam_beta1": 0.8,
    "adam_beta2": 0.95,
    "adam_epsilon": 1e-5,
    "max_grad_norm": 0.05,
    "effective_batch_size": 2,
}
PEFT = {"r": 2, "lora_alpha": 6, "lora_dropout": 0.2, "target_modules": ["q_proj", "down_proj"]}


def changed(settings: Study, **parts: Any) -> Study:
    plain = settings.model_dump(mode="json", by_alias=True)
    return Study.model_validate({**plain, **parts})


def weights(training: JointTraining, k: int) -> dict[str, torch.Tensor]:
    return {f"{site.name}.{n}": w for site, *ab in training.stack.weights(k) for n, w in zip("ab", ab, strict=True)}


def test_an_arm_with_its_own_recipe_is_trained_as_if_alone() -> None:
    x, y = Task(AdapterId("x"), tiny.samples(13, 1), STEPS), Task(AdapterId("y"), tiny.samples(9, 2), STEPS)
    own = {"dataset_name": "practice/diverse", "training": OWN, "peft": PEFT}
    mixed = changed(study(), arms={"x": {"dataset_name": "practice/deep"}, "y": own})
    stacked = JointTraining(tiny.base(), [x, y], VALIDATION, mixed)
    stacked.run()
    plain = JointTraining(tiny.base(), [x], VALIDATION, study())
    plain.run()
    alone = JointTraining(tiny.base(), [y], VALIDATION, changed(study(**OWN), peft=PEFT))
    alone.run()
    for k, (solo, run) in enumerate(((plain, x), (alone, y))):
        assert losses(stacked, run.id) == pytest.approx(losses(solo, run.id), rel=1e-5)
        mine, theirs = weights(stacked, k), weights(solo, 0)
        assert mine.keys() == theirs.keys()
        assert all(close(mine[name], theirs[name], 1e-4) for name in mine)
    assert {name.split(".")[-2] for name in weights(stacked, 1)} == set(PEFT["target_modules"])  # type: ignore[call-overload]
    everything = sum(float(part.abs().sum()) for part in stacked.stack.theta[1:])
    assert everything == pytest.approx(sum(float(w.abs().sum()) for w in weights(stacked, 1).values())), "else zero"


def grid(rates: list[float], **more: Any) -> Study:
    return study(learning_rate=rates, **more)


def test_a_grid_is_trained_point_by_point_and_a_diverging_point_ends_alone() -> None:
    settings = grid([5e-3, 1e30], max_grad_norm=1e30, warmup_ratio=0.0, lr_scheduler_type="constant")
    runs = [Task(AdapterId("x", variant), tiny.samples(13, 1), STEPS) for variant in settings.variants]
    stacked = JointTraining(tiny.base(), runs, VALIDATION, settings)
    stacked.run()
    quiet = study(max_grad_norm=1e30, warmup_ratio=0.0, lr_scheduler_type="constant")
    solo = JointTraining(tiny.base(), [Task(AdapterId("x"), tiny.samples(13, 1), STEPS)], VALIDATION, quiet)
    solo.run()
    assert close(stacked.stack.theta[0], solo.stack.theta[0], 1e-4)
    ended = [row for row in stacked.rows if row["kind"] == "diverged"]
    assert [(row["variant"], row["step"]) for row in ended] == [("lr-1e+30", stacked.trainees[1].progress.stopped)]
    assert torch.isfinite(stacked.stack.theta).all()
    later = [r for r in stacked.rows if r["variant"] == "lr-1e+30" and r["step"] > ended[0]["step"]]
    assert not later and all(math.isfinite(r["loss"]) for r in stacked.rows if r["variant"] == "lr-0.005")


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"training": {"learning_rate": [1e-3, 1e-3]}}, "at least two different"),
        ({"training": {"learning_rate": [1e-3]}}, "at least two different"),
        (
            {
                "training": {"learning_rate": [1e-3, 1e-4]},
                "arms": {"x": {"dataset_name": "practice/deep", "training": {"learning_rate": 1e-3}}},
            },
            "grid of rates is the same",
        ),
        (
            {"arms": {"x": {"dataset_name": "practice/deep", "training": {"learning_rate": [1e-3, 1e-4]}}}},
            "same for all arms",
        ),
        ({"arms": {"x": {"dataset_name": "practice/deep", "training": {"save_steps": 3}}}}, "save_steps"),
        ({"arms": {"x": {"checkpoints": "a", "peft": {"r": 3}}}}, "trained here"),
        ({"compare": {"select": "development"}}, "benchmarks.also"),
        ({"benchmarks": {"also": ["practice"]}}, "the same name"),
    ],
)
def test_mistakes(parts: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        changed(study(), **parts)


def small(**parts: Any) -> Study:
    return Study.model_validate(
        {
            "name": "g",
            "model_name_or_path": "practice",
            "arms": {"deep": {"dataset_name": "practice/deep"}, "diverse": {"dataset_name": "practice/diverse"}},
            "seeds": 1,
            "peft": {"r": 2},
            "training": {"budget": {"steps": 2}, "learning_rate": [1e-3, 1e-2], "save_steps": 1},
            "generation": {"max_new_tokens": 24},
            "benchmarks": {"primary": {"dataset": "practice", "problems": 2}},
            "judge": {"isolation": "best"},
            **parts,
        }
    )


def test_every_seed_is_trained_and_judged_at_every_rate(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "g")
    few = {"split_column": "none", "validation_fraction": 0.01}
    stages.run(small(dataset=few), folder, until=Stage.GENERATE)
    saved = {(id.arm, id.variant, id.seed) for id in stages.saved_checkpoints(folder)}
    assert saved == {(a, v, 0) for a in ("deep", "diverse") for v in ("lr-0.001", "lr-0.01")}
    answered = {(row["variant"], row["seed"]) for row in read_jsonl(folder.completions)}
    assert answered == {("", 0), ("lr-0.001", 0), ("lr-0.01", 0)}
    config = folder.checkpoints / "deep" / "lr-0.01" / "seed-0" / "step-000002" / "adapter_config.json"
    assert json.loads(config.read_text())["r"] == 2


def test_unequal_budgets_are_refused_unless_accepted(tmp_path: Path) -> None:
    arms = {
        "deep": {"dataset_name": "practice/deep", "training": {"budget": {"steps": 4}}},
        "diverse": {"dataset_name": "practice/diverse"},
    }
    unequal = small(arms=arms)
    with pytest.raises(KiyasError, match=r"deep 64 samples, diverse 32 samples(.|\n)*unequal_budgets"):
        prepare(unequal)
    accepted = small(arms=arms, compare={"accept": ["unequal_budgets"]})
    assert prepare(accepted).steps(accepted) == {"deep": 4, "diverse": 2}
    # Settings of training may change after the data were prepared: budgets are looked at again before training.
    folder = RunDir(tmp_path / "g")
    own = {"deep": {**arms["deep"], "training": {"effective_batch_size": 4}}, "diverse": arms["diverse"]}
    equal = {"budget": {"steps": 2}, "effective_batch_size": 4}
    stages.run(small(arms=own, training=equal), folder, until=Stage.DATA)
    with pytest.raises(KiyasError, match="may not spend equal budgets"):
        stages.run(small(arms=own, training={**equal, "effective_batch_size": 8}), folder, until=Stage.TRAIN)
    arms["deep"]["training"] = {"budget": {"steps": 4}, "effective_batch_size": 8}
    assert prepare(small(arms=arms)).steps(small(arms=arms)) == {"deep": 4, "diverse": 2}, "as many samples"


def test_data_that_is_not_what_was_expected_stops_the_run(tmp_path: Path) -> None:
    swapped = {
        "deep": {"dataset_name": "practice/diverse", "expect": {"problems": 200, "solutions": 5}},
        "diverse": {"dataset_name": "practice/deep", "expect": {"problems": 1000}},
    }
    with pytest.raises(KiyasError, match=r"deep: expect.problems is 200(.|\n)*diverse: expect.problems is 1000"):
        stages.run(small(arms=swapped), RunDir(tmp_path / "g"), until=Stage.DATA)
    right = {"deep": {"dataset_name": "practice/deep", "expect": {"problems": 200, "solutions": 5}}}
    assert prepare(small(arms=right)).counts["deep"]["groups"] == pytest.approx(200, rel=0.05)
