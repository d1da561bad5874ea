"""Mistakes that waste a run, and do not forbid it: `kiyas check` and the data stage find the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from kiyas.analyse.findings import Level, Remark
from kiyas.analyse.provenance import shared_remark
from kiyas.data import hub
from kiyas.similarity.shared_rows import SharedRows
from kiyas.study.settings import Study

USUAL_RATES = (1 / 40, 5.0)
"""Learning rates that LoRA usually learns at, as shares of `best_rate`."""
POSSIBLE_RATES = (1 / 1000, 50.0)
"""Beyond these a learning rate is taken for a typing error."""


def in_words(study: Study, shared: Sequence[SharedRows]) -> list[str]:
    """One line for each. `shared`: the training rows of every two arms."""
    lines = [
        f"arms {each.a} and {each.b} are trained on the same {each.a_rows:,} rows: no difference in data to find"
        for each in shared
        if shared_remark(each).code == "same_data" and not recipes_differ(study, each.a, each.b)
    ]
    if study.trained:
        for remark in rate_remarks(study, hidden_size(study)):
            if remark.code == "rate_impossible":
                values = remark.values
                lines.append(
                    f"{values['key']} = {values['rate']:g} is far from every rate at which LoRA learns on such a base "
                    f"(usual: {values['low']:.2g} to {values['high']:.2g}): the training would be wasted"
                )
    return lines


def recipes_differ(study: Study, a: str, b: str) -> bool:
    """Whether two arms differ in more than their data."""
    return study.recipe(a) != study.recipe(b) or study.peft_of(a) != study.peft_of(b)


def hidden_size(study: Study) -> int:
    """The width of the study's base."""
    from kiyas.model.meter import read_config

    return int(read_config(hub.base_folder(study)).get_text_config().hidden_size)


def best_rate(hidden_size: int) -> float:
    """The learning rate at which LoRA learns best on a base of this width, about, with lora_alpha 32.

    Schulman et al. 2025, LoRA Without Regret: 5e-5 · 10 · (2000 / hidden size) ** 0.781, fitted on Llama.
    """
    return 5e-5 * 10 * math.pow(2000 / hidden_size, 0.781)


def rate_remarks(study: Study, hidden_size: int) -> Iterator[Remark]:
    """About learning rates that a base of this width does not bear."""
    best = best_rate(hidden_size)
    low, high = (share * best for share in USUAL_RATES)
    least, most = (share * best for share in POSSIBLE_RATES)
    rates: dict[tuple[str, float], None] = {}
    for arm in study.trained:
        key = (
            "training.learning_rate"
            if study.variants_of(arm) == study.variants
            else f"arms.{arm}.training.learning_rate"
        )
        rates |= {(key, rate): None for rate in study.variants_of(arm).values()}
    for key, rate in rates:
        if not low <= rate <= high:
            values = {"key": key, "rate": rate, "low": low, "high": high, "best": best, "hidden_size": hidden_size}
            code = "rate_unusual" if least <= rate <= most else "rate_impossible"
            yield Remark(code, Level.WARNING, {**values, "too": "high" if rate > high else "low"})
