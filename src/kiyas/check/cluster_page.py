"""What `kiyas check --cluster` says of hours, memory, disk and failures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from kiyas.check.units import duration, size
from kiyas.judge.terminal import many

if TYPE_CHECKING:
    from kiyas.check.cluster_costs import ClusterCosts, Losses, Share

BOTTLENECKS = {
    "longest_training": "the longest training, which stays on one card: faster cards help, more of them do not",
    "training_cards": "the cards that train: more of them help, up to one for each training",
    "answering_cards": "the cards that answer: twice as many take half the time",
    "judge_cores": "the processor cores that judge",
}


def summary(c: ClusterCosts) -> Iterator[str]:
    cards = " + ".join(f"{each.count:,} × {each.title}" for each in c.cards)
    format = f"{c.dtype}; " if c.dtype else ""
    yield (
        f"Estimate for {cards} ({format}computed from data sheets, not measured; the judge as measured here; assumed: "
        f"{many(c.nodes, 'node')} of at most {c.node_cards} cards, {many(c.cores, 'processor core')} in all):"
    )
    if c.wall_s is None:
        yield "  it cannot run there: see the warnings."
        return
    yield f"  about {duration(c.wall_s)}. Bottleneck: {BOTTLENECKS[c.bottleneck or '']}."


def stages(c: ClusterCosts) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for name, side in (("", "left"), ("wall clock", "right"), ("card hours", "right"), ("core hours", "right")):
        made.add_column(name, justify=side)  # type: ignore[arg-type]

    def wall(seconds: float | None) -> str:
        return "-" if seconds is None else duration(seconds)

    def hours(seconds: float | None) -> str:
        return "-" if seconds is None else f"{seconds / 3600:,.{0 if seconds >= 36000 else 1}f}"

    if c.trainings:
        trained = None if c.train_s is None else sum(each.train_s for each in c.cards)
        made.add_row("training", wall(c.train_s), hours(trained), "")
    answered = None if c.generate_s is None else sum(each.generate_s for each in c.cards)
    made.add_row("answering", wall(c.generate_s), hours(answered), "")
    made.add_row("judging, at least", wall(c.judge_s), "", hours(c.judge_core_s))
    return made


def details(c: ClusterCosts) -> Iterator[str]:
    for each in c.cards:
        if line := _card(each, c):
            yield line
    if c.runaway_s is not None and c.generate_s is not None and c.runaway_s > 1.5 * c.generate_s:
        yield f"If every answer ran to generation.max_new_tokens, answering would take {duration(c.runaway_s)}."
    if c.trainings and c.longest_training_s is not None:
        yield f"The longest of {many(c.trainings, 'training')} takes {duration(c.longest_training_s)} on one card."
    yield (
        f"Disk of the run folder {size(c.disk_bytes)}: {many(c.checkpoints, 'checkpoint')} {size(c.checkpoint_bytes)}, "
        f"answers and judgments about {size(c.answer_bytes)}. The base takes {size(c.base_bytes)} on each node."
    )
    if c.judge_cores is not None and c.generate_s is not None:
        yield (
            f"{many(c.answers, 'program')} to judge: {many(math.ceil(c.judge_cores), 'core')} "
            f"{'judges' if c.judge_cores <= 1 else 'judge'} at the pace of the cards, if programs end at once."
        )
    elif c.judge_s is None:
        yield f"{many(c.answers, 'program')} to judge; how long it takes could not be measured: {c.judge_trouble}"
    if c.losses:
        yield f"If nodes fail (simulated; {duration(c.losses[0].repair_s)} until a node works again):"
        for losses in c.losses:
            yield _losses(losses, c)


def _card(each: Share, c: ClusterCosts) -> str:
    m = each.needed
    if m is None or (each.cannot_train and each.cannot_answer):
        return ""
    does = []
    if c.trainings and not each.cannot_train:
        does.append(
            f"training {size(m.training)} with {many(m.trainings, 'adapter')} at once in {m.layout}"
            if each.train_s
            else "no training, since other cards end sooner"
        )
    if not each.cannot_answer:
        does.append(f"answering {size(m.answering)} with {many(m.decoding.rows, 'answer')} at once")
    return f"Memory of each {each.title}: {'; '.join(does)}."


def _losses(losses: Losses, c: ClusterCosts) -> str:
    each, all_nodes = duration(losses.mtbf_s), duration(losses.mtbf_s / c.nodes)
    often = f"  a node every {each}, so one of {c.nodes:,} every {all_nodes}" if c.nodes > 1 else f"  one every {each}"
    if losses.wall_s is None or c.wall_s is None:
        return f"{often}: it would not end; save more often (training.save_steps)."
    count = f"{losses.failures:,.{0 if losses.failures >= 10 else 1}f}" if losses.failures >= 0.05 else "hardly any"
    return (
        f"{often}: {count} failures, {_percent(losses.lost)} of the work is lost; "
        f"{duration(c.wall_s)} become {duration(losses.wall_s)}."
    )


def _percent(share: float) -> str:
    """Two digits, down to a hundredth of a per cent."""
    return f"{100 * share:.2g} %" if share >= 1e-4 else "less than 0.01 %"
