"""Which arm, seed and step a file of someone else's study is about, from its name and folder."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

# fmt: off
NOISE = frozenset((
    "training", "train", "trainer", "state", "log", "logs", "loss", "losses", "history", "metrics",
    "eval", "evaluation", "results", "result", "detailed", "outcomes", "output", "outputs",
    "instruction", "model", "checkpoint", "checkpoints", "json", "jsonl", "csv", "lora", "adapter",
    "final", "data", "dataset", "run", "runs", "v1", "v2", "v3", "v4",
))
# fmt: on
KINDS = ("think", "thinking", "reasoning")
STEP = re.compile(r"(?:steps?|checkpoint|ckpt)[-_]?(\d+)", re.IGNORECASE)
SEED = re.compile(r"seed[-_]?(\d+)", re.IGNORECASE)
EPOCH = re.compile(r"epoch[-_]?(\d+)", re.IGNORECASE)
MODEL = re.compile(r"(?:qwen|llama|codellama|starcoder|gemma|phi)\d*|\d+b|coder|instruct|atcoder", re.IGNORECASE)
WINDOW = re.compile(r"(?<!\d)(\d{2})(\d{2})-(\d{2})(\d{2})(?!\d)")
BASE = re.compile(r"(?:^|[_\-])base(?:line)?(?:$|[_\-])", re.IGNORECASE)


@dataclass(frozen=True)
class Named:
    """What a name says; `step` is None where it says nothing, `by_epoch` that it counts epochs."""

    arm: str
    seed: int
    step: int | None
    window: tuple[date, date] | None
    by_epoch: bool = False

    @property
    def is_base(self) -> bool:
        return self.arm == "base"


def tokens(text: str) -> list[str]:
    """The words of a name that may say which arm it is: noise, numbers and dates left out, each once."""
    text = WINDOW.sub(" ", EPOCH.sub(" ", SEED.sub(" ", STEP.sub(" ", text))))
    words = [word for word in re.split(r"[^\w]+|_", text) if word]
    kept = (w for w in words if w.lower() not in NOISE and not w.isdigit() and not MODEL.fullmatch(w))
    return list(dict.fromkeys(kept))


def window(text: str) -> tuple[date, date] | None:
    """`2408-2502` → August 2024 to the end of February 2025."""
    match = WINDOW.search(text)
    if match is None:
        return None
    y1, m1, y2, m2 = (int(group) for group in match.groups())
    if not (1 <= m1 <= 12 and 1 <= m2 <= 12):
        return None
    after = date(2000 + y2 + m2 // 12, m2 % 12 + 1, 1)
    return date(2000 + y1, m1, 1), after - timedelta(days=1)


def given(path: Path, arm_of: Mapping[str, str]) -> str | None:
    """The arm that the user named for this file: by its path, a glob, or a text in its name."""
    for pattern, arm in arm_of.items():
        globs = (fnmatch.fnmatch(text, pattern) for text in (path.name, str(path)))
        if pattern == str(path) or pattern in path.name or any(globs):
            return arm
    return None


def of_outcomes(path: Path, arm_of: Mapping[str, str]) -> Named:
    """Names like `deep_instruction_checkpoint-step-100_2408-2502_atcoder.jsonl`, `base_model_*.jsonl`."""
    stem = path.stem.rsplit("__", 1)[-1]
    step = STEP.search(stem) or STEP.search(path.parent.name) or EPOCH.search(stem)
    seed = SEED.search(str(path.parent.name + "/" + stem))
    head = re.split(r"[_\-](?=checkpoint|ckpt|step|epoch)", stem, maxsplit=1, flags=re.IGNORECASE)[0] if step else stem
    said = tokens(head)
    arm = given(path, arm_of)
    if arm is None and BASE.search(head) and not step:
        arm = "base"
    if arm is None:
        kinds = [word.lower() for word in said if word.lower() in KINDS]
        plain = [word for word in said if word.lower() not in KINDS]
        if not plain:
            plain = tokens(path.parent.name) or [path.stem]
        names = plain[:1] if step else plain
        arm = "-".join([*names, *kinds[:1]])
    return Named(
        arm_of.get(arm, arm),
        int(seed.group(1)) if seed else 0,
        0 if arm == "base" else (int(step.group(1)) if step else None),
        window(path.stem),
        step is not None and step.re is EPOCH,
    )


def of_log(path: Path, arm_of: Mapping[str, str], known: Iterable[str]) -> Named:
    """A training log's arm: the user's word, else one known from the outcomes, else the name's first word."""
    stem = path.stem.rsplit("__", 1)[-1]
    seed = SEED.search(str(path.parent.name + "/" + stem))
    arm = given(path, arm_of)
    if arm is None:
        folders = [part for part in reversed(path.parts[:-1]) if tokens(part)]
        words = [w for part in (stem, *folders[:2]) for w in tokens(part)]
        by_lower = {name.lower(): name for name in known}
        arm = next((by_lower[word.lower()] for word in words if word.lower() in by_lower), None)
        arm = arm or (words[0] if words else path.stem)
    return Named(arm_of.get(arm, arm), int(seed.group(1)) if seed else 0, None, None)


def contest_date(problem: str) -> date | None:
    """About when an AtCoder Beginner Contest took place: abc365 on 2024-08-03, one a week."""
    match = re.match(r"abc(\d{3})(?:_|$)", problem)
    return date(2024, 8, 3) + timedelta(days=7 * (int(match.group(1)) - 365)) if match else None
