"""The joint training loop: all trainings of one part in a single pass over one frozen base.

Mathematically the same as separate runs: each adapter has its own mean loss, gradient clipping, schedule, step
count and finish mask; see `tests/train/test_contract.py`. A step is cut into passes that memory allows: some adapters
at a time, some samples at a time (see memory.py). State is saved at save points, so that a kill loses at most the
steps since, and at whatever step a run's time ends; on the CPU a resumed training of one layout ends bit-equal to an
undisturbed one.

In float16 gradients are kept in range by a scale for each adapter, applied in float32 at the head (Micikevicius et al.
2018). An adapter whose gradient overflows repeats that step alone with a smaller scale; so all take equal steps.

Shapes: K adapters, P weights of one adapter, M labelled tokens.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from kiyas.model import checkpoints
from kiyas.model.adapters import AdapterStack, Dropout, Spec, StackedModel
from kiyas.model.attention import using
from kiyas.model.base import Base
from kiyas.model.batches import Batch, indices, pack, pad, send, split
from kiyas.model.device import is_out_of_memory, release
from kiyas.runfolder.files import JsonlWriter, digests, how_to_mend, read_jsonl, settle, write_jsonl, write_sealed
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Peft, Recipe, Study
from kiyas.train.memory import Layout, unplanned
from kiyas.train.optimizer import AdamW, schedule
from kiyas.types import AdapterId, KiyasError, TokenizedExample
from kiyas.work import deadline
from kiyas.work.engine import OnProgress
from kiyas.work.progress import tell

_T = TypeVar("_T")
# The flat gradient's views are strided; torch mentions it once.
warnings.filterwarnings("ignore", message="grad and param do not obey")
LARGEST_SCALE = 2.0**15
SMALLEST_SCALE = 2.0**-20
CALM_STEPS = 200
"""Without overflow before the scale of a loss in float16 grows."""
SLOW_DISK = 100e6
"""Bytes a second that a state is written with, until that was measured."""


@dataclass(frozen=True)
class Task:
    """What one training is asked: an arm with a seed, its samples and how many steps it may take."""

    id: AdapterId
    samples: Sequence[TokenizedExample]
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
    scale: float = 1.0
    """of its loss, in float16"""
    calm: int = 0
    """steps since the scale last changed"""
    repeats: int = 0
    """times that a step was repeated because its gradient left float16's range"""


@dataclass(eq=False)
class Trainee:
    """One training under way: row k of every stacked tensor. What happens to it depends on no other one."""

    k: int
    id: AdapterId
    samples: Sequence[TokenizedExample]
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


@dataclass(frozen=True)
class _Group:
    """Adapters that share passes: rows `start` to `end` of every stacked tensor."""

    start: int
    end: int
    stack: AdapterStack
    dropout: Dropout

    @property
    def rows(self) -> slice:
        return slice(self.start, self.end)


class JointTraining:
    """All trainings of one part. `run()` trains to the end, or goes on from the saved state.

    `layout`: how a step is cut into passes; without one it is found (memory.py).
    """

    def __init__(
        self,
        base: Base,
        tasks: Sequence[Task],
        validation: Mapping[str, Sequence[TokenizedExample]],
        study: Study,
        folder: RunDir | None = None,
        part: int = 0,
        layout: Layout | None = None,
    ) -> None:
        self.base, self.validation, self.study, self.folder, self.part = base, validation, study, folder, part
        self.trainees = [
            Trainee(k, t.id, t.samples, t.steps, study.recipe(t.id.arm, t.id.variant), study.peft_of(t.id.arm))
            for k, t in enumerate(tasks)
        ]
        self.step = 0
        self.halvings: list[tuple[int, Layout]] = []
        self.saved: dict[str, dict[str, str]] = {}
        """digests of the files of each checkpoint so far, by its folder"""
        self.in_half = base.dtype == torch.float16
        self.model = StackedModel(base.model, study.target_modules)
        ids, specs = [each.id for each in self.trainees], [each.spec for each in self.trainees]
        self.stack = AdapterStack(ids, specs, self.model.sites, base.device)
        self.stack.initialise([id.seed for id in ids])
        self.gradient = torch.zeros_like(self.stack.theta)
        self.optimizer = AdamW(self.stack.theta, [each.recipe for each in self.trainees])
        self.longest = max(
            len(sample.ids) for rows in (*(t.samples for t in tasks), *validation.values()) for sample in rows
        )
        self.cut(layout or unplanned(study.training.max_tokens_per_pass, self.longest))
        self.saving_s = sum(tensor.nbytes for tensor in self._state.values()) / SLOW_DISK
        self.log: JsonlWriter | None = None
        self.rows: list[dict[str, Any]] = []

    def cut(self, layout: Layout) -> None:
        """Takes a layout: which adapters share passes, how long they are, and whether activations are kept."""
        together = layout.together(len(self.trainees), self.longest)
        self.layout = layout
        self.base.recompute(layout.recompute)
        self.groups = []
        for start in range(0, len(self.trainees), together):
            end = min(start + together, len(self.trainees))
            stack = self.stack.rows(start, end)
            stack.train(self.gradient[start:end])
            dropout = Dropout(*(each.peft.lora_dropout for each in self.trainees[start:end]))
            self.groups.append(_Group(start, end, stack, dropout))

    def _try_largest(self) -> None:
        """Does the largest pass that there can be, and forgets it: what does not fit fails now, not at step 300."""

        def largest() -> None:
            group = self.groups[0]
            longest = max((s for each in self.trainees for s in each.samples), key=lambda sample: len(sample.ids))
            row = [
                TokenizedExample(longest.ids[:length], min(longest.start, length - 1))
                for length in self.layout.row(len(group.stack), len(longest.ids))
            ]
            self.backward([row if k < group.end else [] for k in range(len(self.trainees))], 0)

        self._within_memory(largest)

    def run(self, report: OnProgress = lambda count, note: None, *, try_largest: bool = False) -> None:
        """Trains to the end. Raises KiyasError when a loss is no longer a number, OutOfTimeError when time is up."""
        with self._opened():
            self._keep_layout()
            if try_largest and any(each.takes(self.step) for each in self.trainees):
                self._try_largest()
            if self.step == 0:
                self._validate(self.trainees)
            longest = 0.0
            while running := [each for each in self.trainees if each.takes(self.step)]:
                began = time.monotonic()
                self._step(running, report)
                longest = max(longest, time.monotonic() - began)
                if deadline.is_near(longest + 2 * self.saving_s) and any(each.takes(self.step) for each in running):
                    self._save([])
                    raise deadline.OutOfTimeError
        self._keep_layout()

    def _step(self, running: list[Trainee], report: OnProgress) -> None:
        every = self.study.training
        chosen = [each.batch(self.step) if each in running else [] for each in self.trainees]
        labels = [sum(sample.labels for sample in row) for row in chosen]
        sums, norms = self._within_memory(lambda: self.accumulate(chosen, self.step))
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

    def accumulate(self, chosen: Sequence[Sequence[TokenizedExample]], step: int) -> tuple[list[float], list[float]]:
        """Puts the gradient of each adapter's mean loss over its own samples, clipped, into `self.gradient`.

        `step`, 0-based, is what dropout depends on. Returns the sums of the losses and the norms before clipping, [K].
        """
        labels = [sum(sample.labels for sample in row) for row in chosen]
        sums, norms = self._measured(chosen, step)
        while over := [
            each
            for each in self.trainees
            if self.in_half and chosen[each.k] and math.isfinite(sums[each.k]) and not math.isfinite(norms[each.k])
        ]:
            for each in over:
                self._overflowed(each)
            again = [row if self.trainees[k] in over else [] for k, row in enumerate(chosen)]
            _, repeated = self._measured(again, step)
            for each in over:
                norms[each.k] = repeated[each.k]
        for each in self.trainees:
            if chosen[each.k]:
                share = each.progress.scale * max(1, labels[each.k])
                norms[each.k] /= share
                self.gradient[each.k].mul_(min(1.0, each.recipe.max_grad_norm / (norms[each.k] + 1e-6)) / share)
                if self.in_half:
                    self._calm(each)
        return sums, norms

    def _measured(self, chosen: Sequence[Sequence[TokenizedExample]], step: int) -> tuple[list[float], list[float]]:
        """Sums of the losses, and norms of the gradients of those sums times the scales, [K]."""
        sum_K = self.backward(chosen, step)
        sums, norms = torch.stack([sum_K, torch.linalg.vector_norm(self.gradient, dim=1)]).tolist()
        return sums, norms

    def backward(self, chosen: Sequence[Sequence[TokenizedExample]], step: int) -> Tensor:
        """The gradient of the sum of each adapter's losses times its scale, for those that have samples.

        Of the sum, not the mean: in half precision what is divided by the number of tokens vanishes.
        """
        sum_K = torch.zeros(len(self.trainees), device=self.base.device)
        scale_K = None
        if self.in_half:
            scale_K = send(torch.tensor([each.progress.scale for each in self.trainees]), self.base.device)
        for each in self.trainees:
            if chosen[each.k]:
                self.gradient[each.k].zero_()
        for group in self.groups:
            for batch in self._passes(group, chosen[group.rows], step):
                scale_M = None if scale_K is None else scale_K[group.rows][batch.owner]
                with self._under_way(group, batch):
                    loss_M = self._losses(batch, scale_M)
                    loss_M.sum().backward()  # type: ignore[no-untyped-call]
                sum_K[group.rows].index_add_(0, batch.owner, loss_M.detach())
        return sum_K

    @torch.no_grad()
    def losses_on(self, samples: Sequence[TokenizedExample]) -> list[float]:
        """Mean loss per labelled token of every adapter on the same samples, without dropout."""
        sum_K = torch.zeros(len(self.trainees), dtype=torch.float64, device=self.base.device)
        tokens = sum(sample.labels for sample in samples)
        for group in self.groups:
            for batch in self._passes(group, [samples] * len(group.stack), None):
                with self._under_way(group, batch):
                    loss_M = self._losses(batch)
                sum_K[group.rows].index_add_(0, batch.owner, loss_M.double())
        return [total / tokens for total in sum_K.tolist()]

    def _passes(self, group: _Group, chosen: Sequence[Sequence[TokenizedExample]], step: int | None) -> Iterator[Batch]:
        """The samples of a group's adapters cut into passes that fit the device; with a step, keys for its dropout."""
        if not any(chosen):
            return
        # Longest together: passes of similar samples waste little. Stable, so that equal arms stay aligned.
        ranked = [sorted(range(len(row)), key=lambda i, row=row: -len(row[i].ids)) for row in chosen]  # type: ignore[misc]
        lengths = [[len(sample.ids) for sample in row] for row in chosen]
        for part in split(ranked, lengths, self.layout.pass_tokens):
            rows = [[row[i] for i in places] for row, places in zip(chosen, part, strict=True)]
            keys = None
            if step is not None and group.dropout.on:
                seeds = [each.id.seed for each in self.trainees[group.rows]]
                keys = [[_dropout_key(seed, step, i) for i in row] for seed, row in zip(seeds, part, strict=True)]
            yield (pack(rows, keys) if self.base.packed else pad(rows, keys)).to(self.base.device)

    @contextlib.contextmanager
    def _under_way(self, group: _Group, batch: Batch) -> Iterator[None]:
        """What forward and backward pass of a batch go by: the backward pass may compute activations again."""
        key = batch.dropout_key
        group.dropout.token_KN = None if key is None else key.view(len(group.stack), -1).int()
        self.model.use(group.stack, group.dropout)
        try:
            with using(batch.layout):
                yield
        finally:
            self.model.use(None)

    def _losses(self, batch: Batch, scale_M: Tensor | None = None) -> Tensor:
        hidden = self.base.hidden(batch.ids, batch.positions, batch.attention_mask, batch.layout)
        return self.base.losses(hidden, batch.label_index, batch.target, scale_M)

    # -- what may go wrong in a pass ----------------------------------------------------------------------

    def _overflowed(self, trainee: Trainee) -> None:
        """Its gradient left float16's range: the step is repeated with a smaller scale."""
        progress = trainee.progress
        progress.scale, progress.calm, progress.repeats = progress.scale / 4, 0, progress.repeats + 1
        if progress.scale < SMALLEST_SCALE:
            raise KiyasError(
                f"the gradients of {trainee.id.arm} (seed {trainee.id.seed}) leave float16's range at step "
                f"{self.step + 1}, however small the loss is scaled",
                "set training.dtype=float32, or lower training.learning_rate",
            )

    def _calm(self, trainee: Trainee) -> None:
        """After many steps in range the scale may grow again, so that small gradients do not vanish."""
        progress = trainee.progress
        progress.calm += 1
        if progress.calm >= CALM_STEPS and progress.scale < LARGEST_SCALE:
            progress.scale, progress.calm = progress.scale * 2, 0

    def _within_memory(self, work: Callable[[], _T]) -> _T:
        """Does the work; out of memory, with smaller passes, which are kept from then on."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                smaller = self.layout.smaller(self.longest, self.base.can_recompute)
                if smaller is None:
                    raise
            release(self.base.device)
            self.cut(smaller)
            self.halvings.append((self.step, smaller))
            self._keep_layout()
            tell(f"training: out of memory at step {self.step + 1}; going on with {smaller}")

    # -- what follows a step ------------------------------------------------------------------------------

    def _diverged(self, trainee: Trainee) -> None:
        """A loss that is no longer a number ends this point of a grid; without a grid it ends the run."""
        id, progress = trainee.id, trainee.progress
        if not id.variant:
            raise KiyasError(
                f"the training loss of {id.arm} (seed {id.seed}) is {progress.loss_sum} at step {self.step}",
                "lower training.learning_rate, or check the data around that step"
                + ("; or values left float16's range in the model: training.dtype=float32" if self.in_half else ""),
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
                measured[key] = self._within_memory(lambda samples=samples: self.losses_on(samples))  # type: ignore[misc]
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

    def _keep_layout(self) -> None:
        if self.folder is None:
            return
        halvings = [{"step": step, **asdict(layout)} for step, layout in self.halvings]
        repeats = sum(each.progress.repeats for each in self.trainees)
        notes = {**asdict(self.layout), "halvings": halvings, "repeats": repeats}
        write_sealed(layout_path(self.folder, self.part), notes)

    def _save(self, trainees: list[Trainee]) -> None:
        """Checkpoints of these, and the state of all, where a training goes on."""
        if self.folder is None:
            return
        began = time.monotonic()
        for each in trainees:
            where = self.folder.checkpoints / replace(each.id, step=self.step).folder
            dropout, base = each.peft.lora_dropout, self.study.model_name_or_path
            checkpoints.save_adapter(where, self.stack, each.k, self.model, base, dropout)
            self.saved[str(where.relative_to(self.folder.checkpoints))] = digests(where)
        # One list for each field: what a training stopped by an earlier version has left is read the same way.
        names = [each.name for each in fields(Progress)]
        notes: dict[str, Any] = {name: [getattr(each.progress, name) for each in self.trainees] for name in names}
        # Before the state, where a training goes on: its log must reach as far.
        logged = self.log.sync() if self.log is not None else 0
        notes |= {"step": self.step, "saved": self.saved, "logged": logged}
        checkpoints.save_state(state_path(self.folder, self.part), self._state, notes)
        self.saving_s = time.monotonic() - began

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
        step, logged = -1, 0
        if notes is not None:
            logged = notes.pop("logged", 0)
            step = self.step = notes.pop("step")
            self.saved = notes.pop("saved", {})  # a training stopped by an earlier version noted none
            refuse_changed_checkpoints(self.folder, self.saved)
            for each in self.trainees:
                each.progress = Progress(**{name: values[each.k] for name, values in notes.items()})
        settle(path)
        if (path.stat().st_size if path.exists() else 0) < logged:
            raise KiyasError(
                f"{path}: losses were changed or are lost, and no step before the saved state is repeated",
                how_to_mend(path),
            )
        if path.exists():
            write_jsonl(path, (row for row in read_jsonl(path) if row["step"] <= step), sealed=True)
        for each in self.trainees:
            done = self.folder.checkpoints / Path(each.id.folder).parent
            for folder in done.glob("step-*"):
                if int(folder.name.removeprefix("step-")) > step:
                    shutil.rmtree(folder)
        with JsonlWriter(path) as self.log:
            yield


def refuse_changed_checkpoints(folder: RunDir, saved: Mapping[str, Mapping[str, str]]) -> None:
    """Raises KiyasError for a checkpoint that is not what this training saved. `saved`: digests of its files."""
    for name, written in saved.items():
        where = folder.checkpoints / name
        if digests(where) != written:
            gone = "was changed" if where.exists() else "is missing, and was saved"
            raise KiyasError(f"{where} {gone} while its training is not finished", how_to_mend(where))


def layout_notes(layouts: Sequence[dict[str, Any]]) -> list[str]:
    """What was unusual about how the parts computed, in words for the report."""
    notes = []
    for kept in layouts:
        for each in kept["halvings"]:
            smaller = Layout(each["pass_tokens"], each["recompute"])
            notes.append(f"training ran out of memory at step {each['step'] + 1} and went on with {smaller}")
    if repeats := sum(kept["repeats"] for kept in layouts):
        notes.append(
            f"float16: {repeats} steps of single adapters were repeated with a smaller loss scale, since a gradient "
            "left its range; all adapters took the same number of steps"
        )
    return notes


def layout_path(folder: RunDir, part: int) -> Path:
    """Where one part keeps how it cuts its steps into passes."""
    return folder.train_state / f"part-{part}.layout.json"


def state_path(folder: RunDir, part: int) -> Path:
    """Where one part keeps what a killed training goes on from."""
    return folder.train_state / f"part-{part}.safetensors"


def part_log(folder: RunDir, part: int) -> Path:
    """Where one part logs until the parts are merged into `train/log.jsonl`."""
    return folder.train_state / f"part-{part}.jsonl"


def _dropout_key(seed: int, step: int, position: int) -> int:
    return ((seed * 1_000_003 + step) * 65_537 + position) % 2**62
