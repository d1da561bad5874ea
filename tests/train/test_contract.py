"""The contract of stacked training: K adapters at once = K solo runs = PEFT with torch's own optimizer.

Tolerances of the design: losses 1e-5 relative, gradients 1e-4 of their norm, weights after 20 steps 1e-4.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import get_scheduler

import tiny
from kiyas.model import batches, checkpoints
from kiyas.model.adapters import AdapterStack, Spec, StackedModel
from kiyas.model.base import Base
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Study
from kiyas.train.loop import JointTraining, Task, part_log
from kiyas.types import AdapterId, KiyasError, TokenizedExample
from trainings import STEPS, VALIDATION, close, losses, runs, study


def train(chosen: list[Task], settings: Study, family: str = "qwen2", padded: bool = False) -> JointTraining:
    base = tiny.base(family)
    if padded and base.packed:
        base.model.set_attn_implementation("sdpa")
        base.packed = False
    training = JointTraining(base, chosen, VALIDATION, settings)
    training.run()
    return training


def logged(folder: RunDir) -> list[dict[str, Any]]:
    return read_jsonl(part_log(folder, 0))


@pytest.mark.parametrize("family", list(tiny.CONFIGS))
def test_stack_equals_solo(family: str) -> None:
    settings = study()
    stacked = train(runs(), settings, family)
    for k, run in enumerate(runs()):
        solo = train([run], settings, family)
        assert losses(stacked, run.id) == pytest.approx(losses(solo, run.id), rel=1e-5)
        assert losses(stacked, run.id, "validation") == pytest.approx(losses(solo, run.id, "validation"), rel=1e-5)
        assert close(stacked.stack.theta[k], solo.stack.theta[0], 1e-4)
        assert not close(stacked.stack.theta[k], stacked.stack.theta[(k + 1) % 3], 0.05)


@pytest.mark.parametrize("family", tiny.PACKED)
def test_packed_equals_padded(family: str) -> None:
    packed, padded = train(runs(), study(), family), train(runs(), study(), family, padded=True)
    assert packed.base.packed and not padded.base.packed
    for run in runs():
        assert losses(packed, run.id) == pytest.approx(losses(padded, run.id), rel=1e-5)
    assert close(packed.stack.theta, padded.stack.theta, 1e-4)


def peft_model(family: str, stack: AdapterStack, k: int, model: StackedModel) -> Any:
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=[s.name for s in model.sites],
        fan_in_fan_out=model.conv1d,
        bias="none",
    )
    made = peft.get_peft_model(tiny.model(family), config)
    with torch.no_grad():
        for site, a, b in stack.weights(k):
            layer = made.base_model.model.get_submodule(site.name)
            layer.lora_A["default"].weight.copy_(a)
            layer.lora_B["default"].weight.copy_(b)
    return made


def peft_weights(made: Any, model: StackedModel) -> torch.Tensor:
    parts = []
    for site in model.sites:
        layer = made.base_model.model.get_submodule(site.name)
        parts += [layer.lora_A["default"].weight.flatten(), layer.lora_B["default"].weight.flatten()]
    return torch.cat([part.detach() for part in parts])


def padded_batch(samples: list[TokenizedExample]) -> dict[str, torch.Tensor]:
    longest = max(len(s.ids) for s in samples)
    ids = torch.full((len(samples), longest), tiny.END)
    labels = torch.full((len(samples), longest), -100)
    mask = torch.zeros(len(samples), longest, dtype=torch.long)
    for i, s in enumerate(samples):
        ids[i, : len(s.ids)] = torch.tensor(s.ids)
        labels[i, s.start : len(s.ids)] = torch.tensor(s.ids[s.start :])
        mask[i, : len(s.ids)] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


@pytest.mark.parametrize("scheduler", ["linear", "cosine"])
@pytest.mark.parametrize("family", list(tiny.CONFIGS))
def test_stack_equals_peft(family: str, scheduler: str) -> None:
    settings = study(lr_scheduler_type=scheduler)
    t = settings.training
    stacked = JointTraining(tiny.base(family), runs(), VALIDATION, settings)
    references = [peft_model(family, stacked.stack, k, stacked.model) for k in range(3)]
    stacked.run()
    for k, (run, made) in enumerate(zip(runs(), references, strict=True)):
        made.eval()
        weights = [p for p in made.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=t.learning_rate, weight_decay=t.weight_decay)
        rates = get_scheduler(scheduler, optimizer, math.ceil(t.warmup_ratio * STEPS), STEPS)
        seen, norms = [], []
        for step in range(STEPS):
            chosen = [run.samples[i] for i in batches.indices(len(run.samples), 4, run.id.seed, step)]
            loss = made(**padded_batch(chosen)).loss
            loss.backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(weights, t.max_grad_norm)))
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
            seen.append(loss.item())
        rows = [r for r in stacked.rows if r["kind"] == "train" and (r["arm"], r["seed"]) == (run.id.arm, run.id.seed)]
        assert [r["loss"] for r in rows] == pytest.approx(seen, rel=1e-5)
        assert [r["grad_norm"] for r in rows] == pytest.approx(norms, rel=1e-4)
        assert close(stacked.stack.theta[k], peft_weights(made, stacked.model), 1e-4)


def test_gradients_equal_peft() -> None:
    settings = study(max_grad_norm=1e9)
    training = JointTraining(tiny.base(), runs(), VALIDATION, settings)
    with torch.no_grad():  # a B of zeros would hide the gradient of A
        training.stack.theta.normal_(0, 0.05, generator=torch.Generator().manual_seed(5))
    training.accumulate([each.batch(3) for each in training.trainees], 3)
    for k, run in enumerate(runs()):
        made = peft_model("qwen2", training.stack, k, training.model).eval()
        chosen = [run.samples[i] for i in batches.indices(len(run.samples), 4, run.id.seed, 3)]
        made(**padded_batch(chosen)).loss.backward()
        parts = []
        for site in training.model.sites:
            layer = made.base_model.model.get_submodule(site.name)
            parts += [
                layer.lora_A["default"].weight.grad.flatten(),
                layer.lora_B["default"].weight.grad.flatten(),
            ]
        assert close(training.gradient[k], torch.cat(parts), 1e-4)


def test_splitting_a_batch_changes_nothing() -> None:
    whole, cut = train(runs(), study()), train(runs(), study(max_tokens_per_pass=60))
    for run in runs():
        assert losses(whole, run.id) == pytest.approx(losses(cut, run.id), rel=1e-5)
    assert close(whole.stack.theta, cut.stack.theta, 1e-4)


def test_a_finished_adapter_stands_still() -> None:
    short = train(runs((STEPS, 7, STEPS)), study())
    solo = train([runs((STEPS, 7, STEPS))[1]], study())
    assert close(short.stack.theta[1], solo.stack.theta[0], 1e-4)
    assert len(losses(short, AdapterId("y", seed=0))) == 7
    full = train(runs(), study())
    assert close(short.stack.theta[0], full.stack.theta[0], 1e-4)


def test_rows_of_the_log_do_not_depend_on_the_stack() -> None:
    chosen = runs((13, 7, STEPS))
    stacked = train(chosen, study(logging_steps=3, eval_steps=5))
    for run in chosen:
        solo = train([run], study(logging_steps=3, eval_steps=5))
        keys = [
            [(r["kind"], r["step"], r.get("on")) for r in t.rows if (r["arm"], r["seed"]) == (run.id.arm, run.id.seed)]
            for t in (stacked, solo)
        ]
        assert keys[0] == keys[1]
        assert ("train", run.steps, None) in keys[0] and ("validation", run.steps, "x") in keys[0]


def test_patience_stops_an_adapter_that_no_longer_improves() -> None:
    """A learning rate of next to nothing never improves by much; a hurtful one only gets worse."""
    patient = study(patience=2, save_steps=2, eval_steps=2, learning_rate=0.5, warmup_ratio=0.0)
    training = train(runs(), patient)
    stopped = [each.progress.stopped for each in training.trainees]
    assert any(stopped)
    for k, run in enumerate(runs()):
        own = [r for r in training.rows if r["kind"] == "validation" and r["on"] == run.id.arm]
        steps = {r["step"]: r["loss"] for r in own if (r["arm"], r["seed"]) == (run.id.arm, run.id.seed)}
        if stopped[k]:
            assert max(steps) == stopped[k]
            best = min((loss, step) for step, loss in steps.items() if step)[1]
            assert stopped[k] - best == 4, "two saves without a better loss"
            last = [r["step"] for r in training.rows if r["kind"] == "train" and r["seed"] == run.id.seed]
            assert stopped[k] in last


def test_patience_without_validation_rows_never_stops() -> None:
    training = JointTraining(tiny.base(), runs(), {"x": [], "y": []}, study(patience=1, save_steps=2))
    training.run()
    assert [each.progress.stopped for each in training.trainees] == [None] * 3


def test_a_training_that_an_earlier_version_was_stopped_in_goes_on(tmp_path: Path) -> None:
    """The notes of a saved state are one list for each fact, a value for each training, as they have always been."""

    def stop(count: int, note: str) -> None:
        if stopped.step == 13:
            raise KeyboardInterrupt

    settings = study(logging_steps=3, patience=5, save_steps=5)
    whole, cut = RunDir(tmp_path / "whole"), RunDir(tmp_path / "cut")
    undisturbed = JointTraining(tiny.base(), runs(), VALIDATION, settings, whole)
    undisturbed.run()
    stopped = JointTraining(tiny.base(), runs(), VALIDATION, settings, cut)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(stop)
    path = cut.train_state / "part-0.safetensors"
    tensors = {name: torch.empty_like(stopped.stack.theta) for name in ("theta", "m", "v")}
    notes = checkpoints.load_state(path, tensors)
    assert notes is not None and notes == checkpoints.state_notes(path)
    validated = [row for row in logged(whole) if row["kind"] == "validation" and 0 < row["step"] <= 10]
    own = [
        [r["loss"] for r in validated if r["on"] == run.id.arm and (r["arm"], r["seed"]) == (run.id.arm, run.id.seed)]
        for run in runs()
    ]
    assert [len(losses) for losses in own] == [2, 2, 2]
    old = {
        "step": 10,
        "loss_sum": notes["loss_sum"],
        "loss_tokens": notes["loss_tokens"],
        "tokens": [sum(s.labels for step in range(10) for s in each.batch(step)) for each in undisturbed.trainees],
        "best": [min(losses) for losses in own],
        "worse": [int(losses[1] >= losses[0]) for losses in own],
        "stopped": [None, None, None],
    }
    assert {name: notes[name] for name in old} == old
    checkpoints.save_state(path, tensors, old)
    resumed = JointTraining(tiny.base(), runs(), VALIDATION, settings, cut)
    resumed.run()
    assert torch.equal(resumed.stack.theta, undisturbed.stack.theta)
    assert logged(cut) == logged(whole)


@pytest.mark.parametrize("damage", ["edited", "gone"])
def test_a_checkpoint_that_changes_while_its_training_is_stopped_is_refused(tmp_path: Path, damage: str) -> None:
    def stop(count: int, note: str) -> None:
        if stopped.step == 7:
            raise KeyboardInterrupt

    folder, settings = RunDir(tmp_path), study(save_steps=5)
    stopped = JointTraining(tiny.base(), runs(), VALIDATION, settings, folder)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(stop)
    weights = next(folder.checkpoints.rglob("adapter_model.safetensors"))
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1])) if damage == "edited" else weights.unlink()
    with pytest.raises(KiyasError, match=r"step-000005 was changed while its training is not finished\n.*--redo train"):
        JointTraining(tiny.base(), runs(), VALIDATION, settings, folder).run()


def test_a_log_that_does_not_reach_the_saved_state_is_refused(tmp_path: Path) -> None:
    def stop(count: int, note: str) -> None:
        if stopped.step == 7:
            raise KeyboardInterrupt

    folder, settings = RunDir(tmp_path), study(save_steps=5, logging_steps=1)
    stopped = JointTraining(tiny.base(), runs(), VALIDATION, settings, folder)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(stop)
    path = part_log(folder, 0)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-9]))
    with pytest.raises(KiyasError, match=r"part-0.jsonl: losses were changed or are lost[^\n]*\n.*--redo train"):
        JointTraining(tiny.base(), runs(), VALIDATION, settings, folder).run()


def test_passes_hold_at_most_the_budget() -> None:
    lengths = [[50, 40, 30, 5], [20, 20, 20, 20], [90, 1, 1, 1]]
    rows = [[0, 1, 2, 3]] * 3
    cut = batches.split(rows, lengths, 200)
    assert [sorted(i for part in cut for i in part[k]) for k in range(3)] == rows
    for part in cut:
        cost = 3 * max(sum(lengths[k][i] for i in part[k]) for k in range(3))
        assert cost <= 200 or all(len(row) <= 1 for row in part)
    assert batches.split(rows, lengths, 10_000) == [rows]


def test_smaller_ranks_are_padded_with_zeros_that_stay_zero() -> None:
    base = tiny.base()
    model = StackedModel(base.model)
    stack = AdapterStack([AdapterId("x"), AdapterId("y")], [Spec(4, 8), Spec(2, 8)], model.sites, base.device)
    stack.initialise([0, 0])
    gradient = stack.train()
    model.stack = stack
    with torch.no_grad():
        for site, a, b in stack.weights(1):
            stack.set(1, site, a.clone(), torch.randn(b.shape) * 0.1)
    rows = [tiny.samples(3, 1), tiny.samples(3, 2)]
    batch = batches.pack(rows)
    hidden = base.hidden(batch.ids, batch.positions, None, batch.layout)
    base.losses(hidden, batch.label_index, batch.target).sum().backward()
    padding = [grad for site, grad, _ in stack._views(gradient) for grad in (grad[1, 2:],)]
    assert all(not part.any() for part in padding)
    assert gradient[1].any()


def test_dropout_noise_does_not_depend_on_the_stack() -> None:
    settings = study().model_copy(update={"peft": study().peft.model_copy(update={"lora_dropout": 0.3})})
    stacked = train(runs(), settings)
    padded = train(runs(), settings, padded=True)
    for k, run in enumerate(runs()):
        solo = train([run], settings)
        assert close(stacked.stack.theta[k], solo.stack.theta[0], 1e-4)
    assert close(stacked.stack.theta, padded.stack.theta, 1e-4)
    assert not close(stacked.stack.theta, train(runs(), study()).stack.theta, 0.01)


def test_dropout_keeps_the_share_it_says() -> None:
    from kiyas.model.adapters import Dropout

    dropout = Dropout(0.3)
    dropout.token_KN = torch.stack([batches._token_keys(key, 400) for key in (1, 2, 70_000)])

    def kept(name: str, inputs: int = 64) -> torch.Tensor:
        dropped = dropout.dropped(torch.device("cpu"), inputs, name)
        assert dropped is not None and dropped.shape == (3, 400, inputs)
        return ~dropped

    first = kept("layer")
    assert first.float().mean() == pytest.approx(0.7, abs=0.01)
    assert first.float().mean((0, 1)).sub(0.7).abs().max() < 0.07
    assert first.float().mean((0, 2)).sub(0.7).abs().max() < 0.2
    assert dropout.scale(torch.float32).item() == pytest.approx(1 / 0.7)
    assert (first == kept("other")).float().mean() == pytest.approx(0.58, abs=0.02)
    assert torch.equal(kept("layer", 63), first[..., :63]), "an odd number of inputs"


def test_arms_of_one_seed_start_equal_and_seeds_differ() -> None:
    training = JointTraining(tiny.base(), runs(), VALIDATION, study())
    theta = training.stack.theta
    assert torch.equal(theta[0], theta[1]) and not torch.equal(theta[1], theta[2])
    assert not any(b.any() for k in range(3) for _, _, b in training.stack.weights(k))


def test_head_loss_equals_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    from kiyas.model.base import HeadLoss

    monkeypatch.setattr(HeadLoss, "CHUNK_BYTES", 4 * 50 * 7)
    hidden = torch.randn(33, 16, requires_grad=True)
    weight, bias, target = torch.randn(50, 16), torch.randn(50), torch.randint(0, 50, (33,))
    share = torch.rand(33)
    (HeadLoss.apply(hidden, weight, bias, target, None) * share).sum().backward()
    ours, hidden.grad = hidden.grad, None
    plain = torch.nn.functional.cross_entropy(hidden @ weight.T + bias, target, reduction="none")
    (plain * share).sum().backward()
    assert ours is not None and hidden.grad is not None
    assert torch.allclose(ours, hidden.grad, atol=1e-6)


def test_a_base_that_cannot_pack_is_found_out() -> None:
    assert all(tiny.base(family).packed for family in tiny.PACKED)
    for family in sorted(set(tiny.CONFIGS) - set(tiny.PACKED)):
        assert not tiny.base(family).packed
    assert not tiny.base("gemma2").plain_head


def test_bfloat16_base_trains_float32_adapters() -> None:
    """Coarser arithmetic, the same course: losses within 2 % of the float32 base's, adapters kept in float32."""
    exact, coarse = tiny.base(), Base.of(tiny.model("qwen2").bfloat16(), tiny.base().chat)
    assert coarse.packed and coarse.plain_head
    trainings = [JointTraining(each, runs(), VALIDATION, study()) for each in (exact, coarse)]
    for training in trainings:
        training.run()
    assert trainings[1].stack.theta.dtype == torch.float32
    for run in runs():
        assert losses(trainings[1], run.id) == pytest.approx(losses(trainings[0], run.id), rel=0.02)
