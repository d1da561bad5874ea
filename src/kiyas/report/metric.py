"""What sentences say of the metric where it is not pass@1, which they speak of without a name."""

from __future__ import annotations

from kiyas.report.language import Language

PASS1 = "pass@1"


def badge(words: Language, metric: str, said: str) -> str:
    """The decision in few words."""
    return said if metric == PASS1 else words("metric.badge", badge=said, metric=metric)


def sentence(words: Language, metric: str, said: str) -> str:
    """The sentence of a decision."""
    k = metric.removeprefix("pass@")
    return said if metric == PASS1 else words("metric.sentence", sentence=said, metric=metric, k=k)
