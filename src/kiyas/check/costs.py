"""Memory, disk and time of a study on this machine: from one layer and two of the base, measured in seconds.

Theory of operation. The base's architecture is built from its config.json with one layer and with two, random weights
and a small vocabulary, and goes through Kıyas's own training step and decoding loop at the study's shapes. The second
layer's share is what every further layer costs; the output head is scaled to the real vocabulary. Nothing of the base's
weights is read, nothing is written.

Not guaranteed: more than an order of magnitude. It cannot know how long the answers will be (assumed as long as the
training answers), how long the programs run (assumed to end at once), or what else the machine does.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kiyas import judge
from kiyas.check.cards import Card, Speed
from kiyas.check.cluster import Training
from kiyas.check.memory import Memory, Room, memory
from kiyas.data import benchmarks, hub
from kiyas.data.chat import Chat
from kiyas.generate.decoder import Generator
from kiyas.generate.memory import cache_bytes
from kiyas.generate.work import Job, Question
from kiyas.judging.stage import verdicts
from kiyas.model.base import Base
from kiyas.model.batches import indices
from kiyas.model.device import available_bytes, errors_in_words, pick_device, resident_bytes
from kiyas.model.meter import SMALL_VOCABULARY, Shape, read_config, small_base
from kiyas.pipeline import identity, layout
from kiyas.pipeline.prepare import Prepared, given_checkpoints
from kiyas.study.settings import Dtype, Study
from kiyas.train.loop import JointTraining, Task
from kiyas.types import AdapterId, KiyasError, TokenizedExample
from kiyas.work.workers import HERE

ENOUGH_S = 0.2
"""A measurement grows until it takes so long or has the study's own size."""
STARTUP_S = 1.0
"""Starting processes, for each of the stages train and generate: they are forked from one that has loaded torch."""
JUDGED = 24


@dataclass(frozen=True)
class Work:
    """What is to be done, counted from the data."""

    checkpoints: int
    """that answer"""
    saved: int
    """checkpoints on disk"""
    problems: int
    samples: int
    each_training: tuple[Training, ...]
    lengths: tuple[tuple[int, int], ...]
    """tokens of prompt and completion of some training rows, from the shortest to the longest"""
    longest: int
    """tokens of the longest training sample"""
    prompt_tokens: int
    """of a benchmark prompt, mean"""
    longest_prompt: int
    """tokens of the longest benchmark prompt"""
    answer_tokens: int
    """of an answer: the mean training completion, at most max_new_tokens"""

    @property
    def trainings(self) -> int:
        return len(self.each_training)

    @property
    def train_tokens(self) -> float:
        """Of all training steps of all trainings."""
        return math.fsum(each.tokens for each in self.each_training)

    @property
    def validation_tokens(self) -> float:
        """Of all validation passes of all trainings."""
        return math.fsum(each.validated for each in self.each_training)

    @property
    def answers(self) -> int:
        """Of all checkpoints and the base."""
        return (self.checkpoints + 1) * self.problems * self.samples


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes of the whole study."""

    device: str
    """what was measured on"""
    wanted: str
    """what the study asks for"""
    dtype: str
    workers: tuple[int, int]
    """processes that train, that generate"""
    train_s: float
    """0 where nothing is trained"""
    generate_s: float
    runaway_s: float
    """generating, if every answer went on to max_new_tokens"""
    judge_s: float | None
    """None where the isolation asked for does not hold here"""
    judge_trouble: str
    memory_bytes: int
    """of all processes of the stage that needs most"""
    memory_here: int
    on_card: bool
    """computed for a card that is not here"""
    memory: Memory
    """what of it is at once, and in what layout"""
    disk_bytes: int
    disk_free: int
    adapter_parameters: int
    checkpoints: int
    answers: int
    measured_s: float

    @property
    def total_s(self) -> float:
        return self.train_s + self.generate_s + (self.judge_s or 0.0)


def estimate(
    study: Study, work: Work, problems: Sequence[dict[str, Any]], chat: Chat, card: Card | None = None
) -> Costs:
    """Measures and scales; for a card that is not here, computes. Raises KiyasError for a base that cannot be built."""
    started = time.perf_counter()
    config = read_config(hub.base_folder(study))
    device, dtype, here = _device(study)
    if card is not None:
        device, dtype = torch.device("cpu"), torch_dtype(card.dtype(study.training.dtype))
    size, in_4bit = sum(path.stat().st_size for path in identity.model_files(study)), study.training.load_in_4bit
    parameters = identity.parameters(study) or size // 2
    workers = (1, 1)
    if card is None:
        train, generate = (
            len(layout.places(HERE, here, units)) for units in (max(1, work.trainings), work.checkpoints + 1)
        )
        workers = (train, generate)
    with _threads(1 if max(workers) > 1 else None), errors_in_words():
        probe = small_base(config, 1, chat, device, dtype)
        shape = Shape(config, dtype, probe.packed, probe.plain_head, load_in_4bit=in_4bit)
        weights = shape.nbytes if in_4bit else parameters * dtype.itemsize
        room = card.room if card else _room(device, max(workers))
        needed = memory(
            study,
            shape,
            weights,
            layout.all_trainings(study)[: math.ceil(work.trainings / workers[0])]
            or [AdapterId(next(iter(study.arms)))],
            work.checkpoints + 1,
            work.problems * work.samples,
            work.longest,
            work.longest_prompt,
            room,
            parameters,
        )
        most = (needed.layout.pass_tokens, needed.decoding.rows)
        if card is None:
            speed, adapter = _measure(study, config, work, most, chat, device, dtype)
        else:
            adapter = _Bench(study, work, probe).adapter * config.num_hidden_layers
            cached = (work.prompt_tokens + work.answer_tokens) * cache_bytes(config, dtype)
            # In 4 bits: read, written as what is computed with, and read again.
            moved = weights + in_4bit * 2 * parameters * dtype.itemsize
            speed = card.speed(parameters, moved, adapter, cached, needed, dtype.itemsize)
    judge_s, trouble = judging(study, work, problems)

    def generating(answer: int) -> float:
        each = work.prompt_tokens * speed.prefill + answer * speed.step
        return STARTUP_S + work.answers * each / workers[1]

    training = 0.0
    if work.trainings:
        passes = work.train_tokens * speed.train + work.validation_tokens * speed.forward
        training = STARTUP_S + passes / workers[0]
    # Workers share the processor's memory; a GPU has its own for its worker.
    shares = [count if device.type == "cpu" and card is None else 1 for count in workers]
    return Costs(
        device=card.title if card else _name(device),
        wanted=card.name if card else study.training.device,
        dtype=str(dtype).removeprefix("torch."),
        workers=workers,
        train_s=training,
        generate_s=generating(work.answer_tokens),
        runaway_s=generating(study.generation.max_new_tokens),
        judge_s=judge_s,
        judge_trouble=trouble,
        memory_bytes=max(needed.training * shares[0] if work.trainings else 0, needed.answering * shares[1]),
        memory_here=card.memory if card else _memory(device),
        on_card=card is not None,
        memory=needed,
        # Adapters are kept in float32; a training under way keeps weights and AdamW's two moments as well.
        disk_bytes=4 * adapter * work.saved + 12 * adapter * work.trainings,
        disk_free=shutil.disk_usage(Path.cwd()).free,
        adapter_parameters=adapter,
        checkpoints=work.checkpoints,
        answers=work.answers,
        measured_s=time.perf_counter() - started,
    )


def _room(device: torch.device, workers: int) -> Room:
    if device.type == "cuda":
        return Room("cuda", available_bytes(device))
    return Room("cpu", available_bytes(device), workers, resident_bytes())


def _device(study: Study) -> tuple[torch.device, torch.dtype, Study]:
    """The study's device, else this machine's processor; the dtype that the study would use there; the study so."""
    try:
        device, here = pick_device(study.training.device), study
    except KiyasError:
        device = torch.device("cpu")  # remarked on: Costs.wanted is not Costs.device
        here = study.model_copy(update={"training": study.training.model_copy(update={"device": "cpu"})})
    return device, torch_dtype(layout.number_format(HERE, here)[0]), here


def torch_dtype(chosen: Dtype) -> torch.dtype:
    """torch's own word for a number format that is not `auto`."""
    made: torch.dtype = getattr(torch, chosen)
    return made


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Workers have one thread each; alone, a process has all."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- measuring ----------------------------------------------------------------------------------------------------


class _Bench:
    """The study's work on a small base, timed."""

    def __init__(self, study: Study, work: Work, base: Base) -> None:
        noise = torch.Generator().manual_seed(0)

        def ids(count: int) -> tuple[int, ...]:
            return tuple(torch.randint(0, base.model.config.vocab_size, (count,), generator=noise).tolist())

        self.samples = [TokenizedExample(ids(prompt + completion), prompt) for prompt, completion in work.lengths]
        self.question = Question("measured", ids(work.prompt_tokens))
        measured = AdapterId(next(iter(study.arms)), next(iter(study.variants)))
        self.training = JointTraining(base, [Task(measured, self.samples, 1)], {}, study)
        self.settings = study.generation

    @property
    def adapter(self) -> int:
        """Weights of one adapter."""
        return self.training.stack.theta.shape[1]

    def batch(self, count: int) -> list[TokenizedExample]:
        return [self.samples[i] for i in indices(len(self.samples), count, 0, 0)]

    def train(self, count: int) -> float:
        """Seconds of a step of so many samples."""
        return _seconds(lambda: self.training.accumulate([self.batch(count)], 0), self.training.base.device)

    def decode(self, rows: int, tokens: int) -> float:
        """Seconds of so many answers at once, none of which ends before it has so many tokens."""
        training, settings = self.training, self.settings.model_copy(update={"max_new_tokens": tokens})
        generator = Generator(training.base, training.model, training.stack, settings, stop_ids=frozenset())
        jobs = [Job(0, self.question, sample) for sample in range(rows)]
        return _seconds(lambda: list(generator.answer(jobs, rows)), training.base.device)

    def speed(self, count: int, rows: int) -> Speed:
        """Of steps of so many samples and so many answers at once."""
        batch = self.batch(count)
        tokens = sum(len(sample.ids) for sample in batch)
        prefilled, decoded = self.decode(rows, 1), self.decode(rows, 9)
        return Speed(
            train=self.train(count) / tokens,
            forward=_seconds(lambda: self.training.losses_on(batch), self.training.base.device) / tokens,
            prefill=prefilled / (rows * len(self.question.prompt)),
            step=max(0.0, decoded - prefilled) / (rows * 8),
        )


def _measure(
    study: Study,
    config: Any,
    work: Work,
    most: tuple[int, int],
    chat: Chat,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Speed, int]:
    """Speed of one process and weights of one adapter: of one layer, scaled to all.

    `most`: tokens of a training pass, and answers at once.
    """
    layers = int(config.num_hidden_layers)
    one, two = (
        _Bench(study, work, small_base(config, n, chat, device, dtype, study.training.load_in_4bit))
        for n in (1, min(2, layers))
    )
    mean = statistics.fmean(map(sum, work.lengths))
    batch = one.training.trainees[0].recipe.effective_batch_size * work.trainings
    sizes = _grown(one.train, min(int(most[0] / mean), batch)), _grown(lambda rows: one.decode(rows, 2), most[1])
    first, second = one.speed(*sizes), two.speed(*sizes)
    head = _head_seconds(config, device, dtype)
    more = max(0, config.vocab_size - SMALL_VOCABULARY)
    labels = sum(completion for _, completion in work.lengths) / sum(map(sum, work.lengths))

    def all_layers(a: float, b: float, heads: float) -> float:
        return float(a + max(0.0, b - a) * (layers - 1) + heads * head * more)

    speed = Speed(
        train=all_layers(first.train, second.train, 2 * labels),
        forward=all_layers(first.forward, second.forward, labels),
        prefill=all_layers(first.prefill, second.prefill, 0.0),
        step=all_layers(first.step, second.step, 1.0),
    )
    return speed, one.adapter + (two.adapter - one.adapter) * (layers - 1)


def _head_seconds(config: Any, device: torch.device, dtype: torch.dtype) -> float:
    """One hidden state against one row of the output head."""
    hidden = torch.randn(64, config.hidden_size, device=device, dtype=dtype)
    weight = torch.randn(SMALL_VOCABULARY, config.hidden_size, device=device, dtype=dtype)
    return _seconds(lambda: hidden @ weight.T, device) / (64 * SMALL_VOCABULARY)


def _grown(run: Callable[[int], float], most: int) -> int:
    """A size: twice as much each time, until it takes ENOUGH_S or is `most` (at least 1)."""
    count = 1
    while count < most and run(count) < ENOUGH_S:
        count = min(2 * count, most)
    return count


def _seconds(run: Callable[[], Any], device: torch.device) -> float:
    """The fastest of up to three runs, of one that takes long; the first, which warms up, is not counted if short."""
    best = math.inf
    for turn in range(4):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        used = time.perf_counter() - start
        if turn or used >= ENOUGH_S:
            best = min(best, used)
        if used >= ENOUGH_S:
            return best
    return best


def judging(study: Study, work: Work, problems: Sequence[dict[str, Any]]) -> tuple[float | None, str]:
    """Seconds to judge all answers if every program ended at once, from a few that do; or why it cannot be."""
    known = [judge.problem_from_row(row, "kiyas") for row in problems]
    programs = [(known[i % len(known)].id, f"pass  # {i}") for i in range(JUDGED)]
    try:
        found = verdicts(programs, known, study.judge)
        next(found)  # the sandboxes are up
        start, judged = time.perf_counter(), sum(verdict.total for verdict in found)
    except judge.JudgeError as error:
        return None, str(error)
    per_test = (time.perf_counter() - start) / max(1, judged)
    tests = statistics.fmean(problem.total for problem in known)
    return work.answers * tests * per_test, ""


def worth(costs: Costs, work: Work, seeds: int, now: int, problems: int, samples: int) -> float:
    """Seconds of a design with other numbers of seeds (`now`: the study's), problems and samples; all else equal."""
    more = seeds / now
    answers = (work.checkpoints * more + 1) * problems * samples
    return costs.train_s * more + (costs.generate_s + (costs.judge_s or 0.0)) * answers / work.answers


def work_of(study: Study, prepared: Prepared, steps: dict[str, int], chat: Chat) -> Work:
    """Counts the work. Where nothing is trained here, answers are taken to be as long as they may be."""
    t, most = study.training, study.generation.max_new_tokens
    of_prompt, of_completion = dict[Hashable, int](), dict[Hashable, int]()
    for arm in prepared.arms.values():
        for example, pair in zip(arm.read, arm.lengths, strict=True):
            of_prompt[example.prompt_key], of_completion[example.completion_key] = pair

    def lengths(split: str) -> list[tuple[int, int]]:
        rows = (example for examples in prepared.examples.values() for example in examples if example.split == split)
        return [(of_prompt[row.prompt_key], of_completion[row.completion_key]) for row in rows]

    prompts = [len(chat.prompt_ids(benchmarks.question(row), study.dataset.system)) for row in prepared.problems]
    prompt = round(statistics.fmean(prompts))
    ordered = sorted(lengths("train"), key=sum) or [(prompt, most)]
    points, given = len(study.variants), sum(len(seen) for seen in given_checkpoints(study).values())
    given += sum(arm.model is not None for arm in study.arms.values())
    held_out = sum(map(sum, lengths("validation")))
    of_arms = [
        Training(
            tokens=count * study.recipe(arm).effective_batch_size * prepared.counts[arm]["mean_tokens"],
            validated=float((1 + math.ceil(count / t.eval_steps)) * held_out),
            saves=math.ceil(count / t.save_steps),
        )
        for arm, count in steps.items()
    ]
    trainings = tuple(of_arms) * (len(study.seed_list) * points)
    saves = sum(each.saves for each in trainings)
    return Work(
        each_training=trainings,
        checkpoints=saves + given,
        saved=saves + given,
        problems=len(prepared.problems),
        samples=study.generation.num_samples,
        lengths=tuple(ordered[i * len(ordered) // 32] for i in range(32)),
        longest=sum(ordered[-1]),
        prompt_tokens=prompt,
        longest_prompt=max(prompts),
        answer_tokens=max(1, min(most, round(statistics.fmean(completion for _, completion in ordered)))),
    )
