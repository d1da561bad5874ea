"""The study's contrast by pass@k for other k than the declared one: exploratory, corrected among themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from kiyas.analyse.contrasts import contrast
from kiyas.analyse.findings import OtherK
from kiyas.analyse.load import Loaded
from kiyas.analyse.metric import shown_k
from kiyas.analyse.selection import BySeed
from kiyas.stats import inference


def other_k(loaded: Loaded, chosen: Mapping[str, BySeed], wanted: tuple[str, ...]) -> tuple[OtherK, ...]:
    """None with one answer a problem, or where a compared verdict is missing. The method is the primary contrast's."""
    if len(wanted) != 2 or any(arm not in chosen for arm in wanted):
        return ()
    adapters = {arm: tuple(chosen[arm].values()) for arm in wanted}
    found = {}
    for k in shown_k(loaded):
        if k != loaded.record.compare.k:
            rates = {adapter: loaded.rates(adapter, k) for of_arm in adapters.values() for adapter in of_arm}
            found[k] = contrast(loaded, chosen, *wanted, rates, margin=None), rates
    if any(not math.isfinite(each.p) for each, _ in found.values()):
        return ()
    holm = inference.holm([each.p for each, _ in found.values()])
    a, b = wanted
    return tuple(
        OtherK(
            k,
            a,
            b,
            float(np.mean([rates[pair.a].mean() for pair in each.pairs])),
            float(np.mean([rates[pair.b].mean() for pair in each.pairs])),
            each.difference,
            each.interval,
            each.p,
            corrected,
        )
        for (k, (each, rates)), corrected in zip(found.items(), holm, strict=True)
    )
