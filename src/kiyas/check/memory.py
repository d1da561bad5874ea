"""What training and answering will take of a device's memory, found by what the run itself plans with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kiyas.generate.memory import Needs, decoding_budget
from kiyas.generate.memory import Plan as Decoding
from kiyas.model.meter import Shape
from kiyas.study.settings import Study
from kiyas.train.memory import Layout, training_budget
from kiyas.train.plan import Plan
from kiyas.types import AdapterId, KiyasError

FIRST_PASS_BYTES = 2**27
"""What libraries take on a CPU when they first compute (measured, about)."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one worker, and what it does at once."""

    training: int
    answering: int
    trainings: int
    """at once; the others follow"""
    layout: Layout
    decoding: Decoding
    trouble: str
    """why it does not fit; empty where it does"""
    cannot_train: str
    """why one training does not fit"""
    cannot_answer: str
    """why one answer does not fit"""


@dataclass(frozen=True)
class Room:
    """A device's memory as a worker finds it."""

    kind: str
    """`cuda` or `cpu`"""
    free: int
    workers: int = 1
    """that share it"""
    taken: int = 0
    """by libraries, on a CPU"""


def memory(
    study: Study,
    shape: Shape,
    weights: int,
    trainings: Sequence[AdapterId],
    checkpoints: int,
    answers: int,
    longest: int,
    prompt: int,
    room: Room,
    parameters: int,
) -> Memory:
    """What one of the workers takes: it does some of `trainings`, then `answers` with each of `checkpoints`.

    `weights`: bytes of the base. `longest`: tokens of the longest training sample. `prompt`: of the longest prompt.
    """
    cannot_train = cannot_answer = ""
    plan = Plan(shape, study, trainings, longest, parameters)
    budget = training_budget(room.kind, room.free, room.workers)
    together = plan.together(budget) if room.kind == "cuda" else len(trainings)
    if together < len(trainings):
        plan = Plan(shape, study, trainings[:together], longest, parameters)
    try:
        layout = plan.chosen(budget, room.kind)
    except KiyasError as error:
        cannot_train, layout = str(error.args[0]) if study.trained else "", Layout(longest, recompute=True)
    settings = study.generation
    needs = Needs.of(
        shape.config,
        shape.dtype,
        plan.adapter_bytes // 16,
        prompt,
        settings.max_new_tokens,
        sampled=settings.temperature > 0,
        packed=shape.packed,
        plain_head=shape.plain_head,
        load_in_4bit=shape.load_in_4bit,
    )
    budget = decoding_budget(room.kind, room.free - weights, room.workers, weights)
    share = math.ceil(checkpoints / room.workers)
    try:
        decoding = needs.plan(budget, share, answers, room.kind, settings.max_rows)
    except KiyasError as error:
        cannot_answer, decoding = str(error.args[0]), Decoding(1, 1, prompt)
    taken = room.taken + (FIRST_PASS_BYTES if room.kind == "cpu" else 0)
    return Memory(
        training=plan.peak(layout) + taken,
        answering=weights + needs.peak(decoding) + taken,
        trainings=together,
        layout=layout,
        decoding=decoding,
        trouble=cannot_train or cannot_answer,
        cannot_train=cannot_train,
        cannot_answer=cannot_answer,
    )
