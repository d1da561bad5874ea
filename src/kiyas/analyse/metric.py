"""The metric pass@k, where more than the mean over problems depends on k."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from kiyas.analyse.findings import Choice
from kiyas.analyse.load import Loaded
from kiyas.stats.pass_at_k import equal_checkpoints
from kiyas.types import AdapterId

SHOWN = (1, 5, 10, 100)


def shown_k(loaded: Loaded) -> list[int]:
    """Every k for which pass@k is shown: the usual ones, as many as there are answers, and the declared metric's."""
    usual = {k for k in (*SHOWN, loaded.samples) if k <= loaded.samples}
    return sorted({*usual, loaded.record.compare.k})


def with_selection_bias(choice: Choice, loaded: Loaded, candidates: Sequence[AdapterId]) -> Choice:
    """The choice with its expected selection bias on the scale of the metric; that of pass@1 is there already."""
    k = loaded.record.compare.k
    shares = [shares_P for each in candidates if not np.isnan(shares_P := loaded.rates(each, 1)).any()]
    if k == 1 or len(shares) < 2:
        return choice
    bias = equal_checkpoints(np.stack(shares), loaded.samples, k)
    return dataclasses.replace(choice, best_of=dataclasses.replace(choice.best_of, selection_bias=bias))
