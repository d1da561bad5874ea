"""The joint training loop: all trainings of one part in a single pass over one frozen base.

Mathematically the same as separate runs: each adapter has its own mean loss, gradient clipping, schedule, step
count and finish mask; see `tests/train/test_contract.py`. State is saved at save points, so that a kill loses
at most the steps since; on the CPU a resumed training ends bit-equal to an undisturbed one.

Shapes: K adapters, P weights of one adapter, M labelled tokens.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
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
from kiyas.study.settings import Peft, Recipe, Study
from kiyas.train.optimizer import AdamW, clip, schedule
from kiyas.types import AdapterId, KiyasError, TokenizedExample
from kiyas.work.workers import OnProgress


@dataclass(frozen=True)
class Task:
    """What one training is asked: an arm with a seed, its samples and how many steps it may take."""

    id: AdapterId
    samples: list[TokenizedExample]
    steps: int


@dataclass
class Progress:
    """What the loop remembers of one training besides tensors, so that a resumed one goes on as if undisturbed."""

    loss_sum: float = 0.0
    """since the last row of the log"""
    loss_tokens: int = 0
    """since the last row of the log"""
    tokens: int = 0
    """labelled tokens learned from in all"""
    best: float = math.inf
    """lowest validation loss at a save point"""
    worse: int = 0
    """save points since then"""
    stopped: int | None = None
    """the step at which patience or a loss that is no longer a number ended it"""


@dataclass(eq=False)
class Trainee:
    """One training under way: row k of every stacked tensor. What happens to it depends on no other one."""

    k: int
    id: AdapterId
    samples: list[TokenizedExample]
    steps: int
    recipe: Recipe
    peft: Peft
    progress: Progress = field(default_factory=Progress)

    @property
    def spec(self) -> Spec:
        targets = self.peft.target_modules
        return Spec(self.peft.r, self.peft.lora_alpha, () if targets == "all-linear" else tuple(targets))

    def takes(self, step: int) -> bool:
        """Whether it takes the 0-based step: it has not finished and was not stopped."""
        return step < self.steps and self.progress.stopped is None

    def batch(self, step: int) -> list[TokenizedExample]:
        """The samples of the 0-based step."""
        chosen = indices(len(self.samples), self.recipe.effective_batch_size, self.id.seed, step)
        return [self.samples[i] for i in chosen]


class JointTraining:
    """All trainings of one part. `run()` trains to the end, or goes on from the saved state."""

    def __init__(
        self,
        base: Base,
        tasks: Sequence[Task],
        validation: dict[str, list[TokenizedExample]],
        study: Study,
        folder: RunDir | None = None,
        part: int = 0,
    ) -> None:
        self.base, self.validation, self.study, self.folder, self.part = base, validation, study, folder, part
        self.trainees = [
            Trainee(k, t.id, t.samples, t.steps, study.recipe(t.id.arm, t.id.variant), study.peft_of(t.id.arm))
            for k, t in enumerate(tasks)
        ]
        self.step = 0
        self.model = StackedModel(base.model, study.target_modules)
        ids, specs = [each.id for each in self.trainees], [each.spec for each in self.trainees]
        self.stack = AdapterStack(ids, specs, self.model.sites, base.device)
        self.stack.initialise([id.seed for id in ids])
        self.gradient = self.stack.train()
        self.optimizer = AdamW(self.stack.theta, [each.recipe for each in self.trainees])
        self.model.dropout = Dropout(*(each.peft.lora_dropout for each in self.trainees))
        self.pass_tokens = study.training.max_tokens_per_pass or pass_tokens(
            base.model.config, base.model.dtype, base.device
        )
        self.log: JsonlWriter | None = None
        self.rows: list[dict[str, Any]] = []

    def run(self, report: OnProgress = lambda count, note: None) -> None:
        """Trains to the end. Raises KiyasError when a loss is no longer a number."""
        with self._opened(), warnings.catch_warnings():
            # The flat gradient's views are strided; torch mentions it once.
            warnings.filterwarnings("ignore", message="grad and param do not obey")
            if self.step == 0:
                self._validate(self.trainees)
            while running := [each for each in self.trainees if each.takes(self.step)]:
                self._step(running, report)

    def _step(self, running: list[Trainee], report: OnProgress) -> None:
        every = self.study.training
        chosen = [each.batch(self.step) if each in running else [] for each in self.trainees]
        labels = [sum(sample.labels for sample in row) for row in chosen]
        sums = self.accumulate(chosen, self.step)
        norms = clip(self.gradient, [each.recipe.max_grad_norm for each in self.trainees]).tolist()
        means = [sums[each.k] / max(1, labels[each.k]) for each in running]
        rates = {each.k: schedule(each.recipe, self.step, each.steps) for each in running}
        self.step += 1
        for each in running:
            each.progress.loss_sum += sums[each.k]
            each.progress.loss_tokens += labels[each.k]
            each.progress.tokens += labels[each.k]
            if not math.isfinite(each.progress.loss_sum):
                self._diverged(each)
                del rates[each.k]
        running = [each for each in running if each.k in rates]
        self.optimizer.step(self.gradient, rates, self.step)
        saved = [each for each in running if self.step % every.save_steps == 0 or self.step == each.steps]
        evaluated = [each for each in running if self.step % every.eval_steps == 0 or each in saved]
        if evaluated:
            own = self._validate(evaluated)
            for each in saved:
                self._patience(each, own.get(each.k, math.nan))
        for each in running:
            if self.step % every.logging_steps == 0 or not each.takes(self.step):
                self._log_training(each, rates[each.k], norms[each.k])
        # Patience stops a training only at a save point, so that what it stops is saved, too.
        if saved:
            self._save(saved)
        report(len(running), f"loss {sum(means) / len(means):.3f}")

    def accumulate(self, chosen: Sequence[Sequence[TokenizedExample]], step: int) -> list[float]:
        """Puts the gradient of each adapter's mean loss over its own samples into `self.gradient`.

        `step`, 0-based, is what dropout depends on. Returns the sums of the losses [K].
        """
        K, device = len(self.trainees), self.base.device
        self.gradient.zero_()
        sum_K = torch.zeros(K, device=device)
        weight_K = torch.tensor([1 / max(1, sum(s.labels for s in row)) for row in chosen], device=device)
        for batch in self._passes(chosen, step):
            loss_M = self._losses(batch)
            (loss_M * weight_K[batch.owner]).sum().backward()  # type: ignore[no-untyped-call]
            sum_K.index_add_(0, batch.owner, loss_M.detach())
        sums: list[float] = sum_K.tolist()
        return sums

    @torch.no_grad()
    def losses_on(self, samples: Sequence[TokenizedExample]) -> list[float]:
        """Mean loss per labelled token of every adapter on the same samples, without dropout."""
        sum_K = torch.zeros(len(self.trainees), dtype=torch.float64, device=self.base.device)
        tokens = sum(sample.labels for sample in samples)
        for batch in self._passes([samples] * len(self.trainees), None):
            sum_K.index_add_(0, batch.owner, self._losses(batch).double())
        return [total / tokens for total in sum_K.tolist()]

    def _passes(self, chosen: Sequence[Sequence[TokenizedExample]], step: int | None) -> Iterator[Batch]:
        """Every adapter's samples cut into forward passes that fit the device; with a step, keys for its dropout."""
        # Longest together: passes of similar samples waste little. Stable, so that equal arms stay aligned.
        ranked = [sorted(range(len(row)), key=lambda i, row=row: -len(row[i].ids)) for row in chosen]  # type: ignore[misc]
        lengths = [[len(sample.ids) for sample in row] for row in chosen]
        for part in split(ranked, lengths, self.pass_tokens):
            rows = [[row[i] for i in places] for row, places in zip(chosen, part, strict=True)]
            keys = None
            if step is not None and self.model.dropout.on:
                keys = [[_dropout_key(each.id.seed, step, i) for i in part[each.k]] for each in self.trainees]
            yield (pack(rows, keys) if self.base.packed else pad(rows, keys)).to(self.base.device)

    def _losses(self, batch: Batch) -> Tensor:
        key = batch.dropout_key
        self.model.stack = self.stack
        self.model.dropout.token_KN = None if key is None else key.view(len(self.trainees), -1)
        hidden = self.base.hidden(batch.ids, batch.positions, batch.attention_mask, batch.layout)
        self.model.dropout.token_KN = None  # whatever else runs this model drops nothing
        return self.base.losses(hidden, batch.label_index, batch.target)

    # -- what follows a step ------------------------------------------------------------------------------

    def _diverged(self, trainee: Trainee) -> None:
        """A loss that is no longer a number ends this point of a grid; without a grid it ends the run."""
        id, progress = trainee.id, trainee.progress
        if not id.variant:
            raise KiyasError(
                f"the training loss of {id.arm} (seed {id.seed}) is {progress.loss_sum} at step {self.step}",
                "lower training.learning_rate, or check the data around that step",
            )
        self._write("diverged", trainee, {})
        progress.stopped, progress.loss_sum = self.step, 0.0

    def _validate(self, trainees: list[Trainee]) -> dict[int, float]:
        """Logs their losses on every arm's validation set; returns each one's loss on its own arm's set, by row."""
        own: dict[int, float] = {}
        measured: dict[tuple[TokenizedExample, ...], list[float]] = {}
        for arm, samples in self.validation.items():
            if not samples:
                continue
            key = tuple(samples)
            if key not in measured:
                measured[key] = self.losses_on(samples)
            for each in trainees:
                loss = measured[key][each.k]
                if each.id.arm == arm:
                    own[each.k] = loss
                self._write("validation", each, {"on": arm, "loss": loss, "tokens": sum(s.labels for s in samples)})
        return own

    def _patience(self, trainee: Trainee, loss: float) -> None:
        """Stops a training whose own validation loss has not improved for as many save points as it may."""
        progress, patience = trainee.progress, trainee.recipe.patience
        if patience is None or math.isnan(loss):
            return
        if loss < progress.best:
            progress.best, progress.worse = loss, 0
        else:
            progress.worse += 1
            if progress.worse >= patience:
                progress.stopped = self.step

    def _log_training(self, trainee: Trainee, rate: float, norm: float) -> None:
        progress = trainee.progress
        if progress.loss_tokens:
            loss = progress.loss_sum / progress.loss_tokens
            row = {"loss": loss, "learning_rate": rate, "grad_norm": norm, "tokens": progress.tokens}
            self._write("train", trainee, row)
            progress.loss_sum, progress.loss_tokens = 0.0, 0

    def _write(self, kind: str, trainee: Trainee, values: dict[str, Any]) -> None:
        id = trainee.id
        epoch = round(self.step * trainee.recipe.effective_batch_size / len(trainee.samples), 4)
        where = {"arm": id.arm, "variant": id.variant, "seed": id.seed, "step": self.step, "epoch": epoch}
        row = {"kind": kind, **where, **values}
        if self.log is not None:
            self.log.write(row)
        else:
            self.rows.append(row)

    # -- on disk ------------------------------------------------------------------------------------------

    def _save(self, trainees: list[Trainee]) -> None:
        if self.folder is None:
            return
        for each in trainees:
            where = self.folder.checkpoints / replace(each.id, step=self.step).folder
            dropout, base = each.peft.lora_dropout, self.study.model_name_or_path
            checkpoints.save_adapter(where, self.stack, each.k, self.model, base, dropout)
        # One list for each field: what a training stopped by an earlier version has left is read the same way.
        names = [each.name for each in fields(Progress)]
        notes = {name: [getattr(each.progress, name) for each in self.trainees] for name in names}
        checkpoints.save_state(state_path(self.folder, self.part), self._state, {"step": self.step, **notes})

    @property
    def _state(self) -> dict[str, Tensor]:
        return {"theta": self.stack.theta, "m": self.optimizer.m, "v": self.optimizer.v}

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        """Goes on from the saved state, if there is one: what came after it is taken back and done again."""
        if self.folder is None:
            yield
            return
        path = part_log(self.folder, self.part)
        notes = checkpoints.load_state(state_path(self.folder, self.part), self._state)
        step = -1
        if notes is not None:
            step = self.step = notes.pop("step")
            for each in self.trainees:
                each.progress = Progress(**{name: values[each.k] for name, values in notes.items()})
        if path.exists():
            write_jsonl(path, [row for row in read_jsonl(path) if row["step"] <= step])
        for each in self.trainees:
            done = self.folder.checkpoints / Path(each.id.folder).parent
            for folder in done.glob("step-*"):
                if int(folder.name.removeprefix("step-")) > step:
                    shutil.rmtree(folder)
        with JsonlWriter(path) as self.log:
            yield


def pass_tokens(config: Any, dtype: torch.dtype, device: torch.device) -> int:
    """Tokens of one forward and backward pass that fit the device; on a CPU, what its caches like."""
    if device.type == "cpu":
        return 4096
    free = torch.cuda.mem_get_info(device)[0]
    return int(min(16384, max(256, free // 2 // activation_bytes(config, dtype))))


def activation_bytes(config: Any, dtype: torch.dtype) -> int:
    """Activations of one token, kept for the backward pass: about 12 widths and 4 MLP widths a layer."""
    width = config.hidden_size
    mlp = getattr(config, "intermediate_size", None) or 4 * width
    return int(config.num_hidden_layers * (12 * width + 4 * mlp) * dtype.itemsize)


def state_path(folder: RunDir, part: int) -> Path:
    """Where one part keeps what a killed training goes on from."""
    return folder.train_state / f"part-{part}.safetensors"


def part_log(folder: RunDir, part: int) -> Path:
    """Where one part logs until the parts are merged into `train/log.jsonl`."""
    return folder.train_state / f"part-{part}.jsonl"


def _dropout_key(seed: int, step: int, position: int) -> int:
    return ((seed * 1_000_003 + step) * 65_537 + position) % 2**62
