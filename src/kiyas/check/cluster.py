"""A study on many cards: pure formulas, from what one card of each kind does (cards.py) to hours of the whole cluster.

Theory of operation. The work is placed as a run on a cluster places it. Training: each training whole, on the card on
which it ends first, the longest placed first; a card that holds several does them at once in the time that they take
one after another. Answering: checkpoints × problems in small parts, so that all cards end together. Judging: all
processor cores of all nodes. The stages follow each other.

Not guaranteed: what starting, loading the base and sending results take (minutes, and less the longer a stage is), and
that a card reaches the rates of cards.py.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kiyas.check.cards import CARDS, Card, Speed
from kiyas.check.simulation import NEVER, Failures, Outcome, streamed, trained
from kiyas.generate.work import WAVE
from kiyas.types import KiyasError, did_you_mean

NODE_CARDS = 8
"""Cards of a node, at most (assumed)."""
CARD_CORES = 8
"""Processor cores of a node, for each of its cards (assumed; nodes that are rented with such cards have 6 to 16)."""
MOST_CARDS = 100_000
LONG = 1.05
"""A stage that takes less than so many times its longest training waits for that one."""


class Bottleneck(StrEnum):
    """What the wall time depends on."""

    LONGEST_TRAINING = "longest_training"
    """more cards do not help"""
    TRAINING_CARDS = "training_cards"
    ANSWERING_CARDS = "answering_cards"
    JUDGE_CORES = "judge_cores"


@dataclass(frozen=True)
class Training:
    """One training of an arm."""

    tokens: float
    """of all its steps"""
    validated: float
    """tokens of all its validation passes"""
    saves: int
    """how often its state is saved"""


@dataclass(frozen=True)
class Load:
    """What is to be done."""

    trainings: tuple[Training, ...]
    answers: int
    prompt_tokens: float
    """of a prompt, mean"""
    answer_tokens: float
    """of an answer, mean"""
    judge_s: float | None
    """of one core, for one answer; None where judging could not be measured"""


@dataclass(frozen=True)
class Pool:
    """Cards of one kind, and what one of them does."""

    count: int
    speed: Speed
    trainings: int
    """at once; 0: it trains nothing"""
    rows: int
    """answers at once; 0: it answers nothing"""

    def trains(self, training: Training) -> float:
        """Seconds of a training; `math.inf`: it does not fit."""
        if not self.trainings:
            return math.inf
        return training.tokens * self.speed.train + training.validated * self.speed.forward

    def saves(self, training: Training) -> float:
        """Seconds between two saved states of a training, with the others that are trained beside it."""
        return self.trains(training) / max(1, training.saves) * self.trainings

    def answers(self, load: Load) -> float:
        """A second; 0: none."""
        if not self.rows:
            return 0.0
        return 1 / (load.prompt_tokens * self.speed.prefill + load.answer_tokens * self.speed.step)

    def one_answer(self, load: Load) -> float:
        """Seconds from the prompt to the end of an answer, with the others that are given beside it."""
        return load.prompt_tokens * self.speed.prefill + load.answer_tokens * self.speed.step * self.rows


@dataclass(frozen=True)
class Plan:
    """How the stages go."""

    train: Outcome
    generate: Outcome
    judge_s: float | None
    """with all cores"""
    longest_s: float
    """the longest training, on the card that is fastest for it"""
    cores: int
    judge_cores: float | None
    """so many judge at the pace at which the cards answer"""

    @property
    def wall_s(self) -> float:
        return self.train.wall_s + self.generate.wall_s + (self.judge_s or 0.0)

    @property
    def bottleneck(self) -> Bottleneck:
        if (self.judge_s or 0.0) > max(self.train.wall_s, self.generate.wall_s):
            return Bottleneck.JUDGE_CORES
        if self.generate.wall_s > self.train.wall_s:
            return Bottleneck.ANSWERING_CARDS
        alone = self.train.wall_s <= LONG * self.longest_s
        return Bottleneck.LONGEST_TRAINING if alone else Bottleneck.TRAINING_CARDS


def plan(load: Load, pools: Sequence[Pool], failures: Failures = NEVER) -> Plan:
    """How a study goes on these cards. Without a card that trains, or answers, that stage takes `math.inf` seconds."""
    nodes = nodes_of([pool.count for pool in pools])
    none = tuple(0.0 for _ in pools)
    train = generate = Outcome(math.inf, none)
    if not load.trainings:
        train = Outcome(0.0, none)
    elif any(pool.trainings for pool in pools):
        # Most trainings are alike: the seeds and learning rates of an arm.
        seconds = {each: [pool.trains(each) for pool in pools] for each in set(load.trainings)}
        saved = {each: [pool.saves(each) for pool in pools] for each in set(load.trainings)}
        train = trained([seconds[t] for t in load.trainings], [saved[t] for t in load.trainings], nodes, failures)
    if any(pool.rows for pool in pools):
        rates = [pool.answers(load) for pool in pools]
        waves = [WAVE * pool.one_answer(load) if pool.rows else math.inf for pool in pools]
        generate = streamed(load.answers, rates, waves, nodes, failures)
    cores = CARD_CORES * sum(map(len, nodes))
    judged = None if load.judge_s is None else load.answers * load.judge_s
    return Plan(
        train=train,
        generate=generate,
        judge_s=None if judged is None else judged / cores,
        longest_s=max((min(pool.trains(each) for pool in pools) for each in load.trainings), default=0.0),
        cores=cores,
        judge_cores=None if judged is None else judged / generate.wall_s,
    )


def nodes_of(counts: Sequence[int]) -> list[list[int]]:
    """The kinds of the cards of each node: as few nodes as hold so many cards of each kind, none of them mixed."""
    return [
        [kind] * min(NODE_CARDS, count - first)
        for kind, count in enumerate(counts)
        for first in range(0, count, NODE_CARDS)
    ]


# -- what the user writes -----------------------------------------------------------------------------------------


def parsed(text: str) -> dict[Card, int]:
    """`8xH100,2xT4` as cards and their numbers. Raises KiyasError, once for all mistakes."""
    found, wrong = Counter[Card](), list[str]()
    plain = {_plain(name): card for name, card in CARDS.items()}
    for part in text.split(","):
        match = re.fullmatch(r"(?:(\d+) *[x×*] *)?(\S.*)", part.strip(), re.IGNORECASE)
        if match is None:
            wrong.append("nothing is between two commas" if "," in text else "no cards")
            continue
        count, name = int(match[1] or 1), match[2]
        card = plain.get(_plain(name))
        if not count:
            wrong.append(f"{part.strip()!r} is no card at all")
        elif card is None:
            wrong.append(f"the card {name!r} is not known{_meant(name)}")
        else:
            found[card] += count
    if found.total() > MOST_CARDS:
        wrong.append(f"{found.total():,} cards are more than {MOST_CARDS:,}")
    if wrong:
        raise KiyasError(f"--cluster: {'; '.join(wrong)}", f"such as 8xH100,2xT4; known: {', '.join(CARDS)}")
    return dict(found)


def _plain(name: str) -> str:
    """`A100 40GB` and `a100-40` are one."""
    return re.sub(r"[\s_-]|gb$", "", name.lower())


def _meant(name: str) -> str:
    forms = [known for known in CARDS if known.startswith(f"{name.lower()}-")]
    return f"; did you mean {' or '.join(forms)}?" if forms else did_you_mean(name.lower(), CARDS)
