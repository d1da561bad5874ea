"""Why one interval is wider than another: by what it covers, and by what it is made of."""

from __future__ import annotations

from collections.abc import Sequence

from kiyas.analyse import Level, Remark
from kiyas.pooling.replication import Replication
from kiyas.stats.inference import Interval

NOTABLE = 1.25
"""Times as wide: less is not worth a sentence."""


def width(interval: Interval) -> float:
    return interval.high - interval.low


def remarks(replications: Sequence[Replication], pooled: Sequence[Interval]) -> list[Remark]:
    """`pooled`: the average's intervals, the first one covers other problems; a second one these problems only."""
    if len(replications) < 2:
        return []
    found = []
    if len(pooled) > 1:
        wider = width(pooled[0]) > width(pooled[1])
        values = {"n": len(replications), "df": len(replications) - 1}
        found.append(Remark("wider_other" if wider else "not_wider_other", Level.NOTE, values))
    narrow, *_, wide = sorted(replications, key=lambda each: width(each.interval))
    if width(pooled[0]) > width(narrow.interval):
        found.append(Remark("wider_average", Level.NOTE, {"n": len(replications)}))
    if width(wide.interval) > NOTABLE * width(narrow.interval):
        found += _between(wide, narrow)
    return found


def _between(wide: Replication, narrow: Replication) -> list[Remark]:
    """Every reason that is known. Counts have a remark of their own."""
    names = {"wide": wide.name, "narrow": narrow.name}
    found = []
    if narrow.method == "pair" and wide.method == "two-way":
        found.append(Remark("wider_trainings", Level.NOTE, names))
    for code, n, of in (
        ("wider_seeds", wide.seeds, narrow.seeds),
        ("wider_problems", wide.problems, narrow.problems),
        ("wider_samples", wide.samples or 0, narrow.samples or 0),
    ):
        if 0 < n < of:
            found.append(Remark(code, Level.NOTE, {**names, "n": n, "of": of}))
    if not found and wide.method == narrow.method:
        found.append(Remark("wider_spread", Level.NOTE, names))
    return found
