"""Which arm, seed and step a file of someone else's study is about, from its name and folder."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path, PureWindowsPath

from kiyas.study.settings import HUB_BENCHMARKS
from kiyas.types import BASE_ARM

# fmt: off
NOISE = frozenset((
    "training", "train", "trainer", "state", "log", "logs", "loss", "losses", "history", "metrics",
    "eval", "evaluation", "evaluations", "results", "result", "detailed", "generations", "outcomes", "output",
    "outputs", "samples", "instruction", "model", "models", "checkpoint", "checkpoints", "json", "jsonl", "csv",
    "lora", "adapter", "final", "data", "dataset", "run", "runs", "v1", "v2", "v3", "v4",
    "atcoder", *HUB_BENCHMARKS,
))
# fmt: on
KINDS = ("think", "thinking", "reasoning")
STEP = re.compile(r"(?:steps?|checkpoint|ckpt)[-_ ]?(\d+)", re.IGNORECASE)
SEED = re.compile(r"seed[-_ ]?(\d+)", re.IGNORECASE)
EPOCH = re.compile(r"epoch[-_ ]?(\d+)", re.IGNORECASE)
MODEL = re.compile(r"(?:qwen|llama|codellama|starcoder|gemma|phi)\d*|\d+b|coder|instruct|ins", re.IGNORECASE)
WINDOW = re.compile(r"(?<!\d)(\d{2})(\d{2})-(\d{2})(\d{2})(?!\d)")
BASE = re.compile(r"(?:^|[_\-\s])base(?:line)?(?:$|[_\-\s])", re.IGNORECASE)
TOOLS = re.compile(
    r"^samples_.+_\d{4}-\d\d-\d\dT[\d.-]+$"  # lm-evaluation-harness: task and time
    r"|(?:^|_)(?:Scenario\.)?codegeneration(?:_output)?(?:_\d+_[\d.]+)?(?:_eval(?:_all)?)?$"  # LiveCodeBench
)
"""What tools put into a file's name; where nothing else is in it, the folder says whose it is."""


@dataclass(frozen=True)
class Named:
    """What a name says; `step` is None where it says nothing, `by_epoch` that it counts epochs."""

    arm: str
    seed: int
    step: int | None
    window: tuple[date, date] | None
    by_epoch: bool = False


def tokens(text: str) -> list[str]:
    """The words of a name that may say which arm it is: noise, numbers and dates left out, each once."""
    text = WINDOW.sub(" ", EPOCH.sub(" ", SEED.sub(" ", STEP.sub(" ", text))))
    kept = (w for w in _words(text) if w.lower() not in NOISE and not w.isdigit() and not MODEL.fullmatch(w))
    return list(dict.fromkeys(kept))


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[^\w]+|_", text) if word]


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


def _parts(path: Path, folders: Sequence[str] | None) -> tuple[str, list[str]]:
    """The file's name and its folders, nearest first. A back-slash separates folders too: so Windows' zips unpack."""
    *inner, name = PureWindowsPath(path.name).parts or (path.name,)
    outer = path.parts[:-1] if folders is None else folders
    return name, [*reversed(inner), *reversed(outer)]


def _number(pattern: re.Pattern[str], texts: Iterable[str]) -> int | None:
    """The number after such a word in the first text that has one."""
    return next((int(match.group(1)[:15]) for text in texts if (match := pattern.search(text))), None)


def of_outcomes(path: Path, arm_of: Mapping[str, str], folders: Sequence[str] | None = None) -> Named:
    """Names like `deep_instruction_checkpoint-step-100_2408-2502_atcoder.jsonl`, `base_model_*.jsonl`; else folders.

    `folders`: those of the file's folders that may say something, outermost first; all of them by default.
    """
    name, above = _parts(path, folders)
    stem = Path(name).stem
    texts = [TOOLS.sub("", stem.rsplit("__", 1)[-1]), *above]
    step, epoch = _number(STEP, texts), _number(EPOCH, texts[:1])
    number = epoch if step is None else step
    arm = given(path, arm_of) or _arm(texts, number is not None) or stem
    arm = arm_of.get(arm, arm)
    by_epoch = step is None and epoch is not None
    return Named(arm, _number(SEED, texts) or 0, 0 if arm == BASE_ARM else number, window(stem), by_epoch)


def _arm(texts: list[str], stepped: bool) -> str | None:
    """The first text that says whose results these are. In a checkpoint's name that is its first word."""
    kinds: list[str] = []
    for number, text in enumerate(texts):
        head = re.split(r"[_\-\s]*(?=checkpoint|ckpt|step|epoch)", text, maxsplit=1, flags=re.IGNORECASE)[0]
        head = head if stepped else text
        if not stepped and BASE.search(head):
            return BASE_ARM
        # A path made a name (`models__deep__checkpoint-100`): the last part that says something.
        said = next(filter(None, map(tokens, reversed(head.split("__")))), [])
        kinds += [word.lower() for word in said if word.lower() in KINDS]
        plain = [word for word in said if word.lower() not in KINDS]
        if plain:
            return "-".join([*(plain[:1] if stepped else plain), *kinds[:1]])
        if number and any(map(MODEL.fullmatch, _words(head))):
            return head.strip("-_. ")
    return None


def of_log(path: Path, arm_of: Mapping[str, str], known: Iterable[str], folders: Sequence[str] | None = None) -> Named:
    """A training log's arm: the user's word, else one known from the outcomes, else the name's first word."""
    name, above = _parts(path, folders)
    stem = Path(name).stem
    texts = [stem.rsplit("__", 1)[-1], *[folder for folder in above if tokens(folder)][:2]]
    words = [word for text in texts for word in tokens(text)]
    by_lower = {name.lower(): name for name in known}
    arm = given(path, arm_of) or next((by_lower[word.lower()] for word in words if word.lower() in by_lower), None)
    arm = arm or (words[0] if words else stem)
    return Named(arm_of.get(arm, arm), _number(SEED, [texts[0], *above]) or 0, None, None)


def contest_date(problem: str) -> date | None:
    """About when an AtCoder Beginner Contest took place: abc365 on 2024-08-03, one a week."""
    match = re.match(r"abc(\d{3})(?:_|$)", problem)
    return date(2024, 8, 3) + timedelta(days=7 * (int(match.group(1)) - 365)) if match else None
