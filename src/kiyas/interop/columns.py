"""What the column of a loss table is: `train/loss`, `Validation Loss`, `brisk-pond-1 - eval/loss__MIN`, `aux_loss`.

Only names that leave no doubt are read. A loss under any other name is left out and listed.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

STEP = ("global step", "trainer global step", "train global step", "step", "steps", "iteration", "iter", "adım", "adim")
"""Names of the step, the first of them counts: a tracker's own `Step` counts its log calls."""
LOSS = frozenset(("loss", "losses", "kaybı", "kaybi", "kayıp", "kayip"))
PARTS = {
    **dict.fromkeys(("train", "training", "tr", "eğitim", "egitim"), "train"),
    **dict.fromkeys(
        ("eval", "evaluation", "valid", "validation", "val", "dev", "doğrulama", "dogrulama"), "validation"
    ),
    **dict.fromkeys(("test", "testing"), "test"),
}
MEANS = frozenset(("mean", "avg", "average"))
# fmt: off
AUXILIARY = frozenset((
    "aux", "auxiliary", "router", "z", "kl", "kld", "moe", "load", "balancing", "balance", "lb", "ce", "nll", "mtp",
    "distill", "distillation", "kd", "reg", "regularization", "l1", "l2", "policy", "value", "entropy", "reward",
    "contrastive", "commitment", "vq", "orthogonal", "ortho", "penalty", "total", "scale", "ema", "smooth", "smoothed",
    "min", "max", "std", "step", "epoch", "batch", "running", "sum", "raw", "unscaled", "best", "final", "per", "token",
    *MEANS,
))
"""Words of losses that are not of a set of data"""
# fmt: on
JOINED = re.compile(r"(training|train|validation|valid|val|eval|test|dev)(loss)|(loss)(train|val|valid|eval|test)")
RANGE = re.compile(r"__(?:min|max)$", re.IGNORECASE)
OTHERS = frozenset(("loss scale", "grad loss scale"))


class Kind(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"


@dataclass(frozen=True)
class Loss:
    """A column with losses. `on`: the data of a validation loss, None for the arm's own. `run`: a tracker's name."""

    key: str
    kind: Kind
    on: str | None = None
    run: str | None = None
    plain: bool = True
    """False for a mean, which counts only where there is nothing plainer"""


def step_key(keys: Iterable[str]) -> str | None:
    """The column with the step; None where there is none."""
    by_name = {" ".join(_words(key)): key for key in reversed(list(keys))}
    return next((by_name[name] for name in STEP if name in by_name), None)


def losses(keys: Iterable[str]) -> tuple[list[Loss], list[str]]:
    """(columns with losses, columns that look like losses and are not understood)."""
    found: list[Loss] = []
    strange: list[str] = []
    for key in keys:
        run, name = _run(key)
        words = _words(name)
        if RANGE.search(key) or " ".join(words) in OTHERS or not LOSS.intersection(words):
            continue
        loss = _loss(key, run, words)
        if loss is None:
            strange.append(key)
        else:
            found.append(loss)
    return _plainest(found, strange)


def part_of(name: str) -> str | None:
    """What a list of losses is of by its name: train, validation or test."""
    parts = {PARTS[word] for word in _words(name) if word in PARTS}
    return parts.pop() if len(parts) == 1 else None


def is_loss(key: str) -> bool:
    return not LOSS.isdisjoint(_words(_run(key)[1]))


def _run(key: str) -> tuple[str | None, str]:
    """A tracker's export: `RUN - train/loss`."""
    run, found, name = key.rpartition(" - ")
    return (run.strip().removeprefix("Group: "), name) if found and run.strip() else (None, key)


@functools.lru_cache(4096)
def _words(key: str) -> list[str]:
    key = unicodedata.normalize("NFC", key).strip()
    key = re.sub(r"(?<=[a-zğıöşü0-9])(?=[A-ZÇĞİÖŞÜ])", " ", key).replace("İ", "i").lower()
    key = JOINED.sub(lambda match: " ".join(filter(None, match.groups())), key)
    return re.findall(r"[^\W_]+", key)


def _loss(key: str, run: str | None, words: list[str]) -> Loss | None:
    """None where the name leaves a doubt."""
    rest = [word for word in words if word not in LOSS]
    plain = [word for word in rest if word not in MEANS]
    parts = {PARTS.get(word, word) for word in plain}
    if parts <= {"train"}:
        return Loss(key, Kind.TRAIN, None, run, plain == rest)
    if parts == {"validation"}:
        return Loss(key, Kind.VALIDATION, None, run, plain == rest)
    if parts == {"test"}:
        return Loss(key, Kind.VALIDATION, "test", run, plain == rest)
    # `eval_deep_loss`: Trainer's name for one of several sets
    first, *name = rest
    named = PARTS.get(first) == "validation" and words[-1] in LOSS and bool(name) and name[0] not in PARTS
    if named and AUXILIARY.isdisjoint(name):
        return Loss(key, Kind.VALIDATION, "_".join(name), run)
    return None


def _plainest(found: list[Loss], strange: list[str]) -> tuple[list[Loss], list[str]]:
    """One column for each loss: a mean gives way to a plain one; of two alike neither is chosen here."""
    kept: list[Loss] = []
    for loss in found:
        same = [each for each in found if (each.kind, each.on, each.run) == (loss.kind, loss.on, loss.run)]
        if not loss.plain and any(each.plain for each in same):
            strange.append(loss.key)
        else:
            kept.append(loss)
    return kept, strange
