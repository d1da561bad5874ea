"""What a study takes on a cluster that is not here: memory of each kind of card as the run would plan it, and hours.

The base's configuration and tokenizer are read, its weights are not. Nothing is trained, and no GPU is needed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kiyas import judge
from kiyas.check import cluster, costs
from kiyas.check.cards import Card, Speed
from kiyas.check.cluster import Bottleneck, Load, Pool
from kiyas.check.memory import Memory, memory
from kiyas.check.simulation import NODE_MTBF_S, REPAIR_S, Failures, Outcome
from kiyas.data import hub
from kiyas.data.chat import Chat
from kiyas.generate.memory import cache_bytes
from kiyas.judge.pool import usable_cores
from kiyas.model.device import RESERVE_BYTES, errors_in_words
from kiyas.model.meter import Shape
from kiyas.pipeline import layout
from kiyas.study.settings import Dtype, Study
from kiyas.train.plan import Plan
from kiyas.types import AdapterId, KiyasError

TAKEN_BACK_S = 24 * 3600.0
"""Mean time between failures of a node that its owner may take back at any time (assumed)."""
SIMULATED = 50
"""Runs of the simulation that are averaged, at most."""
ENOUGH_FAILURES = 1000
"""After so many there are no further runs."""
NOTHING = Speed(math.inf, math.inf, math.inf, math.inf)
TOKEN_BYTES = 8
"""Of text, for each token of an answer (about): the answer is kept, and so is the program in it."""
ROW_BYTES, TEST_BYTES = 500, 190
"""Of an answer and its judgment, beside the text, and of each test in it (measured, about)."""


@dataclass(frozen=True)
class Share:
    """What the cards of one kind take and do."""

    card: str
    title: str
    count: int
    memory_bytes: int
    """of one card"""
    needed: Memory | None
    """of one card; None where the base alone is too large"""
    cannot_train: str
    """why it takes no training; empty where it takes some, or the study has none"""
    cannot_answer: str
    train_s: float
    """of all these cards together"""
    generate_s: float


@dataclass(frozen=True)
class Losses:
    """What failures cost, if a node fails so often."""

    mtbf_s: float
    repair_s: float
    failures: float
    """of nodes, in training and answering; this and the following are means of several runs"""
    lost: float
    """share of the cards' work (0 to 1)"""
    wall_s: float | None
    """of the whole study; None: it does not always end"""


@dataclass(frozen=True)
class ClusterCosts:
    """Seconds and bytes of the whole study on a cluster."""

    cards: tuple[Share, ...]
    nodes: int
    node_cards: int
    """assumed, at most"""
    cores: int
    """of all nodes (assumed)"""
    dtype: str
    """of all cards that compute; empty where none does"""
    trainings: int
    checkpoints: int
    answers: int
    train_s: float | None
    """wall clock; None: no card can do it"""
    longest_training_s: float | None
    generate_s: float | None
    runaway_s: float | None
    """answering, if every answer went on to max_new_tokens"""
    judge_s: float | None
    """None: it could not be measured here"""
    judge_trouble: str
    wall_s: float | None
    judge_core_s: float | None
    judge_cores: float | None
    """so many judge at the pace at which the cards answer"""
    bottleneck: Bottleneck | None
    adapter_parameters: int
    checkpoint_bytes: int
    answer_bytes: int
    base_bytes: int
    """on each node"""
    losses: tuple[Losses, ...]

    @property
    def disk_bytes(self) -> int:
        """Of the run folder."""
        return self.checkpoint_bytes + self.answer_bytes


def estimate(
    study: Study, work: costs.Work, problems: Sequence[dict[str, Any]], chat: Chat, asked: Mapping[Card, int]
) -> ClusterCosts:
    """Computes it; only the judge is measured here. Raises KiyasError for a base that cannot be built."""
    judged, trouble = costs.judging(study, work, problems)
    load = Load(
        trainings=work.each_training,
        answers=work.answers,
        prompt_tokens=work.prompt_tokens,
        answer_tokens=work.answer_tokens,
        judge_s=None if judged is None else judged * (study.judge.workers or usable_cores()) / work.answers,
    )
    with errors_in_words():
        base = _Base.of(study, work, chat)
        shares = [_share(base, card, asked) for card in asked]
    pools = [
        Pool(
            count=share.count,
            speed=base.speed(share.needed, card) if share.needed else NOTHING,
            trainings=share.needed.trainings if share.needed and not share.cannot_train else 0,
            rows=share.needed.decoding.rows if share.needed and not share.cannot_answer else 0,
        )
        for card, share in zip(asked, shares, strict=True)
    ]
    plan = cluster.plan(load, pools)
    tests = statistics.fmean(judge.problem_from_row(row, "kiyas").total for row in problems)
    most = study.generation.max_new_tokens
    works = [card for card, pool in zip(asked, pools, strict=True) if pool.trainings or pool.rows]
    wall = _known(plan.wall_s)
    return ClusterCosts(
        cards=tuple(
            replace(share, train_s=train_s, generate_s=generate_s)
            for share, train_s, generate_s in zip(shares, plan.train.card_s, plan.generate.card_s, strict=True)
        ),
        nodes=len(cluster.nodes_of(list(asked.values()))),
        node_cards=cluster.NODE_CARDS,
        cores=plan.cores,
        dtype=_format(study, works),
        trainings=work.trainings,
        checkpoints=work.checkpoints,
        answers=work.answers,
        train_s=_known(plan.train.wall_s),
        longest_training_s=_known(plan.longest_s),
        generate_s=_known(plan.generate.wall_s),
        runaway_s=_known(cluster.plan(replace(load, answer_tokens=most), pools).generate.wall_s),
        judge_s=plan.judge_s,
        judge_trouble=trouble,
        wall_s=wall,
        judge_core_s=None if load.judge_s is None else load.judge_s * load.answers,
        judge_cores=plan.judge_cores,
        bottleneck=None if wall is None else plan.bottleneck,
        adapter_parameters=base.adapter,
        # Adapters are kept in float32; a training under way keeps weights and AdamW's two moments as well.
        checkpoint_bytes=4 * base.adapter * work.saved + 12 * base.adapter * work.trainings,
        answer_bytes=round(work.answers * (ROW_BYTES + TEST_BYTES * tests + TOKEN_BYTES * work.answer_tokens)),
        base_bytes=base.parameters * 2,
        losses=() if wall is None else tuple(_losses(load, pools, each) for each in (NODE_MTBF_S, TAKEN_BACK_S)),
    )


def _known(seconds: float) -> float | None:
    return None if math.isinf(seconds) else seconds


def _losses(load: Load, pools: Sequence[Pool], mtbf_s: float) -> Losses:
    walls, stages, failed = list[float](), list[Outcome](), 0
    while len(walls) < SIMULATED and failed < ENOUGH_FAILURES:
        found = cluster.plan(load, pools, Failures(mtbf_s, REPAIR_S, seed=len(walls)))
        walls.append(found.wall_s)
        stages += (found.train, found.generate)
        failed += found.train.failures + found.generate.failures
    return Losses(
        mtbf_s=mtbf_s,
        repair_s=REPAIR_S,
        failures=failed / len(walls),
        lost=sum(stage.lost_s for stage in stages) / max(sum(sum(stage.card_s) for stage in stages), 1e-9),
        wall_s=_known(sum(walls) / len(walls)),
    )


# -- the cards ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Base:
    """The base and the work, as far as memory and speed of a card depend on them."""

    study: Study
    work: costs.Work
    shape: Shape
    weights: int
    """bytes in memory"""
    parameters: int
    adapter: int
    """parameters of one"""

    @classmethod
    def of(cls, study: Study, work: costs.Work, chat: Chat) -> _Base:
        wanted = study.training.dtype
        dtype = costs.torch_dtype(Dtype.BFLOAT16 if wanted is Dtype.AUTO else wanted)
        plain = Shape.probed(hub.base_folder(study), dtype, chat, load_in_4bit=False)
        shape = replace(plain, load_in_4bit=study.training.load_in_4bit)
        ids = layout.all_trainings(study) or [AdapterId(next(iter(study.arms)))]
        adapter = Plan(shape, study, ids, work.longest, 0).adapter_bytes // 16
        return cls(study, work, shape, shape.nbytes, plain.nbytes // dtype.itemsize, adapter)

    def cannot(self, card: Card) -> str:
        """Why a card computes nothing of this, as far as that is known at once; empty: it may."""
        try:
            card.dtype(self.study.training.dtype)
        except KiyasError as error:
            return str(error.args[0])
        usable = card.room.free - RESERVE_BYTES
        if self.weights > usable:
            return f"the base alone takes {self.weights / 1e9:.1f} GB, but only {usable / 1e9:.1f} GB can be used"
        return ""

    def needed(self, card: Card, cards: int) -> Memory:
        """On one of so many cards that share the work alike."""
        ids = layout.all_trainings(self.study) or [AdapterId(next(iter(self.study.arms)))]
        checkpoints = math.ceil((self.work.checkpoints + 1) / cards)
        return memory(
            self.study,
            replace(self.shape, dtype=costs.torch_dtype(card.dtype(self.study.training.dtype))),
            self.weights,
            ids[: math.ceil(len(ids) / cards)],
            checkpoints,
            math.ceil(self.work.answers / cards / checkpoints),
            self.work.longest,
            self.work.longest_prompt,
            card.room,
            self.parameters,
        )

    def speed(self, needed: Memory, card: Card) -> Speed:
        config, dtype = self.shape.config, self.shape.dtype
        cached = (self.work.prompt_tokens + self.work.answer_tokens) * cache_bytes(config, dtype)
        # In 4 bits: read, written as what is computed with, and read again.
        moved = self.weights + self.shape.load_in_4bit * 2 * self.parameters * dtype.itemsize
        return card.speed(self.parameters, moved, self.adapter, cached, needed, dtype.itemsize)


def _share(base: _Base, card: Card, asked: Mapping[Card, int]) -> Share:
    """What one of the cards takes, and why it does not, where it does not."""
    cannot = {each: base.cannot(each) for each in asked}
    needed = None
    if not cannot[card]:
        needed = base.needed(card, sum(count for each, count in asked.items() if not cannot[each]))
    return Share(
        card=card.name,
        title=card.title,
        count=asked[card],
        memory_bytes=card.memory,
        needed=needed,
        cannot_train=(needed.cannot_train if needed else cannot[card]) if base.study.trained else "",
        cannot_answer=needed.cannot_answer if needed else cannot[card],
        train_s=0.0,
        generate_s=0.0,
    )


def _format(study: Study, cards: Sequence[Card]) -> str:
    """What all cards that work compute in: the format of the oldest."""
    found = {card.dtype(study.training.dtype) for card in cards}
    return next((each.value for each in (Dtype.FLOAT32, Dtype.FLOAT16, Dtype.BFLOAT16) if each in found), "")
