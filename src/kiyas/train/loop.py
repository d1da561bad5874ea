"""The joint training loop: all trainings of one part in a single pass over one frozen base.

Mathematically the same as separate runs: each adapter has its own mean loss, gradient clipping, schedule, step
count and finish mask; see `tests/test_training_contract.py`. State is saved at save points, so that a kill loses
at most the steps since; on the CPU a resumed training ends bit-equal to an undisturbed one.

Shapes: K adapters, P weights of one adapter, M labelled tokens.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kiyas.model import checkpoints
from kiyas.model.adapters import AdapterStack, Dropout, Spec, StackedModel
from kiyas.model.base import Base
from kiyas.model.batches import Batch, indices, pack, pad, split
from kiyas.runfolder.files import JsonlWriter, read_jsonl, write_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Peft, Study
from kiyas.train.optimizer import AdamW, clip, schedule
from kiyas.types import AdapterId, KiyasError, Sample
from kiyas.work.workers import OnProgress


@dataclass(frozen=True)
class Run:
    """One training: an arm with a seed, its samples and how many steps it may take."""

    id: AdapterId
    samples: list[Sample]
    steps: int


@dataclass
class _Memory:
    """What the loop remembers besides tensors: saved with them, so that a resumed run goes on as if undisturbed."""

    step: int = 0
    loss_sum: list[float] = field(default_factory=list)
    loss_tokens: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    worse: list[int] = field(default_factory=list)
    stopped: list[int | None] = field(default_factory=list)


class JointTraining:
    """All trainings of one part. `run()` trains to the end, or goes on from the saved state."""

    def __init__(
        self,
        base: Base,
        runs: list[Run],
        validation: dict[str, list[Sample]],
        study: Study,
        folder: RunDir | None = None,
        part: int = 0,
    ) -> None:
        self.base, self.runs, self.validation, self.study, self.folder, self.part = (
            base,
            runs,
            validation,
            study,
            folder,
            part,
        )
        self.settings = study.training
        self.recipes = [study.recipe(run.id.arm, run.id.variant) for run in runs]
        self.pefts = [study.peft_of(run.id.arm) for run in runs]
        self.model = StackedModel(base.model, study.target_modules)
        specs = [Spec(peft.r, peft.lora_alpha, _targets(peft)) for peft in self.pefts]
        self.stack = AdapterStack([run.id for run in runs], specs, self.model.sites, base.device)
        self.stack.initialise([run.id.seed for run in runs])
        self.gradient = self.stack.train()
        self.optimizer = AdamW(self.stack.theta, self.recipes)
        self.model.stack = self.stack
        self.model.dropout = Dropout(*(peft.lora_dropout for peft in self.pefts))
        K = len(runs)
        self.memory = _Memory(0, [0.0] * K, [0] * K, [0] * K, [math.inf] * K, [0] * K, [None] * K)
        self.log: JsonlWriter | None = None
        self.rows: list[dict[str, Any]] = []
        self.pass_tokens = self.settings.max_tokens_per_pass or pass_tokens(base)

    @property
    def steps(self) -> int:
        return max(run.steps for run in self.runs)

    def active(self, step: int) -> list[bool]:
        """Which adapters take the 0-based step: not those that have finished or were stopped."""
        return [
            step < run.steps and stopped is None for run, stopped in zip(self.runs, self.memory.stopped, strict=True)
        ]

    def run(self, report: OnProgress = lambda count, note: None) -> None:
        """Trains to the end. Raises KiyasError when a loss is no longer a number."""
        with self._opened(), warnings.catch_warnings():
            # The flat gradient's views are strided; torch mentions it once.
            warnings.filterwarnings("ignore", message="grad and param do not obey")
            if self.memory.step == 0:
                self._validate(0, [True] * len(self.runs))
            while any(self.active(self.memory.step)):
                self._step(report)

    def _step(self, report: OnProgress) -> None:
        t, memory = self.settings, self.memory
        active = self.active(memory.step)
        step = memory.step + 1
        norm_K = self.accumulate(memory.step, active)
        active = [on and not diverged for on, diverged in zip(active, self._diverged(step), strict=True)]
        rates = [schedule(recipe, memory.step, run.steps) for recipe, run in zip(self.recipes, self.runs, strict=True)]
        self.optimizer.step(self.gradient, rates, active, step)
        memory.step = step
        # Each adapter's rows and checkpoints are its own affair: they never depend on what else is in the stack.
        ends = [run.steps == step for run in self.runs]
        saves = [on and (step % t.save_steps == 0 or end) for on, end in zip(active, ends, strict=True)]
        evaluates = [on and (step % t.eval_steps == 0 or save) for on, save in zip(active, saves, strict=True)]
        if any(evaluates):
            self._patience(step, self._validate(step, evaluates), saves)
        stops = [stopped == step for stopped in self.memory.stopped]
        last = [end or stop for end, stop in zip(ends, stops, strict=True)]
        logs = [on and (step % t.logging_steps == 0 or end) for on, end in zip(active, last, strict=True)]
        self._log_training(step, rates, norm_K.tolist(), logs)
        # An adapter that patience stops here is saved here too: stopping only happens at a save point.
        if any(saves):
            self._save(step, saves)
        report(sum(active), f"loss {sum(self.last_loss) / len(self.last_loss):.3f}")

    # -- one step -----------------------------------------------------------------------------------------

    def accumulate(self, step: int, active: list[bool]) -> Tensor:
        """Gradient of each adapter's own mean loss for the 0-based step, clipped, in `self.gradient`.

        Returns the norms before clipping [K]. The loss sums go to the memory.
        """
        sizes = [recipe.effective_batch_size for recipe in self.recipes]
        chosen = [
            [run.samples[i] for i in indices(len(run.samples), size, run.id.seed, step)] if on else []
            for run, size, on in zip(self.runs, sizes, active, strict=True)
        ]
        tokens = [sum(sample.labels for sample in row) for row in chosen]
        self.gradient.zero_()
        sums = torch.zeros(len(self.runs), device=self.base.device)
        weight_K = torch.tensor([1 / max(1, n) for n in tokens], device=self.base.device)
        for batch in self._passes(chosen, step):
            loss_M = self._losses(batch)
            (loss_M * weight_K[batch.owner]).sum().backward()  # type: ignore[no-untyped-call]
            sums.index_add_(0, batch.owner, loss_M.detach())
        norm_K = clip(self.gradient, [recipe.max_grad_norm for recipe in self.recipes])
        self.last_loss = []
        for k, total in enumerate(sums.tolist()):
            if active[k]:
                self.memory.loss_sum[k] += total
                self.memory.loss_tokens[k] += tokens[k]
                self.memory.tokens[k] += tokens[k]
                self.last_loss.append(total / max(1, tokens[k]))
        return norm_K

    def _diverged(self, step: int) -> list[bool]:
        """Which adapters' loss is no longer a number: of a grid, that point ends here; else the run does."""
        diverged = [not math.isfinite(total) for total in self.memory.loss_sum]
        for k, (run, bad) in enumerate(zip(self.runs, diverged, strict=True)):
            if bad and not run.id.variant:
                total = self.memory.loss_sum[k]
                raise KiyasError(
                    f"the training loss of {run.id.arm} (seed {run.id.seed}) is {total} at step {step}",
                    "lower training.learning_rate, or look at the data around that step",
                )
            if bad:
                self._write("diverged", k, step, {})
                self.memory.stopped[k], self.memory.loss_sum[k] = step, 0.0
                self.gradient[k] = 0.0
        return diverged

    def _passes(self, chosen: list[list[Sample]], step: int | None) -> Iterator[Batch]:
        """A batch cut into forward passes that fit the device."""
        # Longest together: passes of similar samples waste little. Stable, so that equal arms stay aligned.
        ranked = [sorted(range(len(row)), key=lambda i, row=row: -len(row[i].ids)) for row in chosen]  # type: ignore[misc]
        lengths = [[len(sample.ids) for sample in row] for row in chosen]
        for part in split(ranked, lengths, self.pass_tokens):
            rows = [[chosen[k][i] for i in part[k]] for k in range(len(chosen))]
            keys = None
            if step is not None and self.model.dropout.on:
                keys = [[_dropout_key(self.runs[k].id.seed, step, i) for i in part[k]] for k in range(len(chosen))]
            made = pack(rows, keys) if self.base.packed else pad(rows, self.base.chat.pad_id, keys)
            yield made.to(self.base.device)

    def _losses(self, batch: Batch) -> Tensor:
        key = batch.dropout_key
        self.model.dropout.token_KN = None if key is None else key.view(len(self.runs), -1)
        hidden = self.base.hidden(batch.ids, batch.positions, batch.attention_mask, batch.layout)
        return self.base.losses(hidden, batch.label_index, batch.target)

    # -- validation, log, checkpoints ---------------------------------------------------------------------

    @torch.no_grad()
    def losses_on(self, samples: list[Sample]) -> list[float]:
        """Mean loss per labelled token of every adapter on the same samples."""
        sums = torch.zeros(len(self.runs), dtype=torch.float64, device=self.base.device)
        tokens = sum(sample.labels for sample in samples)
        # The same samples for every adapter: cut them so that one pass fits.
        ordered = sorted(samples, key=lambda sample: -len(sample.ids))
        budget = max(1, self.pass_tokens // len(self.runs))
        start = 0
        while start < len(ordered):
            end, used = start, 0
            while end < len(ordered) and (end == start or used + len(ordered[end].ids) <= budget):
                used += len(ordered[end].ids)
                end += 1
            rows = [ordered[start:end]] * len(self.runs)
            batch = pack(rows) if self.base.packed else pad(rows, self.base.chat.pad_id)
            batch = batch.to(self.base.device)
            sums.index_add_(0, batch.owner, self._losses(batch).double())
            start = end
        return [total / tokens for total in sums.tolist()]

    def _validate(self, step: int, chosen: list[bool]) -> list[float]:
        """Logs the chosen adapters' losses on every arm's validation set; returns each one's loss on its own."""
        own = [math.nan] * len(self.runs)
        measured: dict[tuple[Sample, ...], list[float]] = {}
        for arm, samples in self.validation.items():
            if not samples:
                continue
            key = tuple(samples)
            if key not in measured:
                measured[key] = self.losses_on(samples)
            for k, run in enumerate(self.runs):
                if run.id.arm == arm:
                    own[k] = measured[key][k]
                if chosen[k]:
                    row = {"on": arm, "loss": measured[key][k], "tokens": sum(s.labels for s in samples)}
                    self._write("validation", k, step, row)
        return own

    def _patience(self, step: int, own: list[float], saves: list[bool]) -> None:
        for k, (loss, saved, recipe) in enumerate(zip(own, saves, self.recipes, strict=True)):
            if recipe.patience is None or not saved or math.isnan(loss):
                continue
            if loss < self.memory.best[k]:
                self.memory.best[k], self.memory.worse[k] = loss, 0
            else:
                self.memory.worse[k] += 1
                if self.memory.worse[k] >= recipe.patience:
                    self.memory.stopped[k] = step

    def _log_training(self, step: int, rates: list[float], norms: list[float], chosen: list[bool]) -> None:
        memory = self.memory
        for k, logged in enumerate(chosen):
            if not logged or not memory.loss_tokens[k]:
                continue
            row = {
                "loss": memory.loss_sum[k] / memory.loss_tokens[k],
                "learning_rate": rates[k],
                "grad_norm": norms[k],
                "tokens": memory.tokens[k],
            }
            self._write("train", k, step, row)
            memory.loss_sum[k], memory.loss_tokens[k] = 0.0, 0

    def _write(self, kind: str, k: int, step: int, values: dict[str, Any]) -> None:
        run = self.runs[k]
        epoch = round(step * self.recipes[k].effective_batch_size / len(run.samples), 4)
        id = {"arm": run.id.arm, "variant": run.id.variant, "seed": run.id.seed, "step": step}
        row = {"kind": kind, **id, "epoch": epoch, **values}
        if self.log is not None:
            self.log.write(row)
        else:
            self.rows.append(row)

    def _save(self, step: int, saves: list[bool]) -> None:
        if self.folder is None:
            return
        study = self.study
        for k, saved in enumerate(saves):
            if saved:
                id = self.runs[k].id
                where = self.folder.checkpoints / AdapterId(id.arm, id.variant, id.seed, step).folder
                dropout = self.pefts[k].lora_dropout
                checkpoints.save_adapter(where, self.stack, k, self.model, study.model_name_or_path, dropout)
        tensors = {"theta": self.stack.theta, "m": self.optimizer.m, "v": self.optimizer.v}
        checkpoints.save_state(self._state_path(), tensors, asdict(self.memory))

    def _state_path(self) -> Path:
        assert self.folder is not None
        return self.folder.train_state / f"part-{self.part}.safetensors"

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        """Goes on from the saved state, if there is one: what came after it is taken back and done again."""
        if self.folder is None:
            yield
            return
        path = part_log(self.folder, self.part)
        state = checkpoints.load_state(self._state_path(), self.base.device)
        step = -1
        if state is not None:
            tensors, notes = state
            self.memory = _Memory(**notes)
            with torch.no_grad():
                self.stack.theta.copy_(tensors["theta"])
                self.optimizer.m.copy_(tensors["m"])
                self.optimizer.v.copy_(tensors["v"])
            step = self.memory.step
        if path.exists():
            write_jsonl(path, [row for row in read_jsonl(path) if row["step"] <= step])
        for run in self.runs:
            done = self.folder.checkpoints / Path(run.id.folder).parent
            for folder in done.glob("step-*"):
                if int(folder.name.removeprefix("step-")) > step:
                    shutil.rmtree(folder)
        with JsonlWriter(path) as self.log:
            yield


def _targets(peft: Peft) -> tuple[str, ...]:
    return () if peft.target_modules == "all-linear" else tuple(peft.target_modules)


def pass_tokens(base: Base) -> int:
    """Tokens of one forward and backward pass that fit the device; on a CPU, what its caches like."""
    if base.device.type == "cpu":
        return 4096
    free = torch.cuda.mem_get_info(base.device)[0]
    return int(min(16384, max(256, free // 2 // activation_bytes(base.model.config, base.model.dtype.itemsize))))


def activation_bytes(config: Any, itemsize: int) -> int:
    """Activations of one token, kept for the backward pass: about 12 widths and 4 MLP widths a layer."""
    width = config.hidden_size
    mlp = getattr(config, "intermediate_size", None) or 4 * width
    return int(config.num_hidden_layers * (12 * width + 4 * mlp) * itemsize)


def part_log(folder: RunDir, part: int) -> Path:
    """Where one part logs until the parts are merged into `train/log.jsonl`."""
    return folder.train_state / f"part-{part}.jsonl"


def _dropout_key(seed: int, step: int, position: int) -> int:
    return ((seed * 1_000_003 + step) * 65_537 + position) % 2**62
