"""Which arm, seed and step a file of someone else's study is about, from its name and folder."""

from __future__ import annotations

import fnmatch
import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path, PureWindowsPath

from kiyas.study.settings import HUB_BENCHMARKS
from kiyas.types import BASE_ARM, KiyasError

# fmt: off
NOISE = frozenset((
    "training", "train", "trainer", "state", "log", "logs", "loss", "losses", "history", "metrics",
    "eval", "evaluation", "evaluations", "results", "result", "detailed", "generations", "outcomes", "output",
    "outputs", "samples", "instruction", "model", "models", "checkpoint", "checkpoints", "ckpt", "json", "jsonl", "csv",
    "lora", "adapter", "adapters", "weights", "peft", "snapshots", "final", "data", "dataset", "run", "runs", "global",
    "predictions", "completions", "judgments", "atcoder", *HUB_BENCHMARKS,
))
# fmt: on
PLACES = frozenset(("best", "last", "latest", "final"))
"""Which checkpoint of a training it is, where nobody says its step"""
TAIL_NOISE = frozenset(("easy", "medium", "hard", "generation", "judged", "graded", "scored", "greedy", "all"))
"""What is said of an evaluation, behind the step in a file's name"""
BESIDE = frozenset(("answers", "verdicts", "generated", "generation", "responses", "judged", "scored", "graded", "raw"))
"""Folders for the same checkpoints' answers and verdicts"""
KINDS = ("think", "thinking", "reasoning")
STEP = re.compile(r"(?:steps?|checkpoint|ckpt|(?<![a-z])iter(?:ation)?s?)[-_ =]?(\d+)(?![\dk])", re.IGNORECASE)
NUMBERED = re.compile(r"(?:steps?|checkpoint|ckpt|epoch)[-_ =]?\d", re.IGNORECASE)
SEED = re.compile(r"seed[-_ =]?(\d+)", re.IGNORECASE)
EPOCH = re.compile(r"epoch[-_ =]?(\d+)", re.IGNORECASE)
SHARD = re.compile(r"(?<![^\W_])(?:part|shard|chunk|worker)[-_ ]?\d+(?:[-_ ]?of[-_ ]?\d+)?|\d+[-_]of[-_]\d+", re.I)
COPY = re.compile(r"\s+\(\d+\)$")
MODEL = re.compile(r"(?:qwen|llama|codellama|starcoder|gemma|phi)[\d.]*|[\d.]+b|coder|instruct|ins", re.IGNORECASE)
WINDOW = re.compile(r"(?<!\d)(\d{2})(\d{2})-(\d{2})(\d{2})(?![-\d])")
STAMP = re.compile(r"(?<!\d)20\d\d[-_.]?\d\d[-_.]?\d\d[-_T ]+\d\d[-_.h:]?\d\d(?:[-_.m:]?\d\d)?(?!\d)")
VERSION = re.compile(r"v[1-4]|[\d.]+|(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,64}", re.IGNORECASE)
"""Versions, numbers, dates and hashes: no name for an arm, but two that differ in them are two arms"""
BASE = re.compile(r"(?:^|[_\-\s])base(?:line)?(?:$|[_\-\s])", re.IGNORECASE)
TOOLS = re.compile(
    r"^samples_.+_\d{4}-\d\d-\d\dT[\d.-]+$"  # lm-evaluation-harness: task and time
    r"|(?:^|_)(?:Scenario\.)?codegeneration(?:_output)?(?:_\d+_[\d.]+)?(?:_eval(?:_all)?)?$"  # LiveCodeBench
    r"|^\d{4}-\d\d-\d\dT[\d+-]+_.+_[0-9A-Za-z]{20,24}$"  # inspect_ai: time, task and id
    r"|^task-\d+-.+-predictions$"  # OLMES: number and name of the task
    r"|(?<=temp_\d\.\d)(?:[-._](?:raw|sanitized|eval_results))+$"  # EvalPlus: model, backend, temperature
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
    label: tuple[str, ...] = ()
    """all words, numbers, dates and hashes of the name that may tell one training from another, outermost first"""
    core: tuple[str, ...] | None = None
    """the same without plain words of a file's folders, where its own name says which arm it is; else None"""
    given: bool = False
    """the user named the arm"""
    outer: frozenset[str] = frozenset()
    """words of the folders above the one that names the arm"""


def tokens(text: str) -> list[str]:
    """The words of a name that may say which arm it is: noise, numbers and dates left out, each once."""
    kept = (w for w in _words(_plain(text)) if w.lower() not in NOISE and not VERSION.fullmatch(w))
    return list(dict.fromkeys(w for w in kept if not MODEL.fullmatch(w)))


def _plain(text: str) -> str:
    """Without step, seed, epoch and the months of the problems."""
    for pattern in (STEP, SEED, EPOCH):
        text = pattern.sub(" ", text)
    return WINDOW.sub(lambda match: " " if window(match.group()) else match.group(), text)


def _words(text: str) -> list[str]:
    """Words in any script; a decimal number (0.5) and an exponent (1e-4) are part of one."""
    text = unicodedata.normalize("NFC", text)
    joints = {match.start() for match in re.finditer(r"(?<=\d)\.(?=\d)|(?<=\de)-(?=\d)", text)}
    return "".join(c if at in joints or _in_word(c) else " " for at, c in enumerate(text)).split()


def _in_word(char: str) -> bool:
    return char.isalnum() or char in "+#" or unicodedata.category(char) in ("Mn", "Mc", "Me", "So")


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


def only_a_checkpoint(name: str) -> bool:
    """Does a folder's name say which checkpoint it is (`checkpoint-100`, `best_model`), and not whose?"""
    said = tokens(name)
    words = {word.lower() for word in _words(_plain(name))}
    return all(word.lower() in PLACES for word in said) and bool(STEP.search(name) or words & (PLACES | PARTS_OF_ONE))


PARTS_OF_ONE = frozenset(("adapter", "checkpoint", "weights"))


def _number(pattern: re.Pattern[str], texts: Iterable[str]) -> int | None:
    """The number after such a word in the first text that has one."""
    return next((int(match.group(1)[:15]) for text in texts if (match := pattern.search(text))), None)


def of_outcomes(path: Path, arm_of: Mapping[str, str], folders: Sequence[str] | None = None) -> Named:
    """Names like `deep_instruction_checkpoint-step-100_2408-2502_atcoder.jsonl`, `base_model_*.jsonl`; else folders.

    `folders`: those of the file's folders that may say something, outermost first; all of them by default.
    """
    name, above = _parts(path, folders)
    stem = COPY.sub("", _stem(name))
    texts = [TOOLS.sub("", stem.rsplit("__", 1)[-1]), *above]
    step, epoch = _number(STEP, texts), _number(EPOCH, texts[:2])
    number = epoch if step is None else step
    found, place = _arm(texts, number is not None)
    arm = given(path, arm_of) or found or next((_joined(text) for text in texts if _joined(text)), stem)
    by_file = place == 0 and (step is None or STEP.search(texts[0]) is not None)
    label, core = _label(texts, place, number is not None, by_file=by_file)
    by_epoch = step is None and epoch is not None
    mine = given(path, arm_of) is not None or arm in arm_of
    arm = arm_of.get(arm, arm)
    seed = _number(SEED, texts) or 0
    outer = frozenset(word for text in texts[place + 1 :] for word in _words(text) if not by_file)
    return Named(arm, seed, 0 if arm == BASE_ARM else number, window(stem), by_epoch, label, core, mine, outer)


ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".gz", ".eval")


def _stem(name: str) -> str:
    """Without the ending of a file; a folder's name may have a dot in it."""
    while Path(name).suffix.lower() in ENDINGS and Path(name).stem:
        name = Path(name).stem
    return name


def _joined(text: str) -> str:
    return "-".join(_words(_plain(text)))


def _arm(texts: list[str], stepped: bool) -> tuple[str | None, int]:
    """The first text that says whose results these are, and which it is. In a checkpoint's name: its first word."""
    kinds: list[str] = []
    for number, text in enumerate(texts):
        head = _head(text) if stepped else text
        if not stepped and BASE.search(head):
            return BASE_ARM, number
        # A path made a name (`models__deep__checkpoint-100`): the last part that says something.
        said = next(filter(None, map(tokens, reversed(head.split("__")))), [])
        kinds += [word.lower() for word in said if word.lower() in KINDS]
        plain = [word for word in said if word.lower() not in KINDS]
        if NUMBERED.search(head) and all(word[0].isdigit() for word in plain):
            continue  # checkpoint-1k: 1,000, or the first?
        if any(word.lower() not in PLACES for word in plain):
            return "-".join([*(plain[:1] if stepped else plain), *kinds[:1]]), number
        if number and any(map(MODEL.fullmatch, _words(head))):
            return head.strip("-_. "), number
    return None, len(texts) - 1


def _head(text: str) -> str:
    """What lies before the step."""
    return re.split(r"[_\-\s]*(?=checkpoint|ckpt|step|epoch|(?<![a-z])iter)", text, maxsplit=1, flags=re.IGNORECASE)[0]


def _label(
    texts: list[str], place: int, stepped: bool, *, by_file: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """(what may tell this training from others, the same without plain words of a file's folders), outermost first.

    `by_file`: the file's own name says which arm it is, and which checkpoint.
    """
    label: list[str] = []
    core: list[str] = []
    for number, text in reversed(list(enumerate(texts))):
        head = _head(text) if stepped and not number else ""
        if tokens(head):
            tail = SHARD.sub(" ", STAMP.sub(" ", text[len(head) :]))
            text = f"{head} {' '.join(_without(TAIL_NOISE, tail))}"
        words = _without(NOISE - PLACES, text)
        if all(map(VERSION.fullmatch, words)) and words:
            words = [_joined(text)]  # run_1, v2, 2025-01-01
        if number > place:
            words = [word for word in words if word.lower() not in BESIDE]
        for word in words:
            plain = _is_plain(word) and word.lower() not in PLACES
            label.append(word)
            core += [] if by_file and number and plain else [word]
    return tuple(label), tuple(core) if by_file else None


def _is_plain(word: str) -> bool:
    return word.isascii() and word.isalpha()


def _without(noise: frozenset[str], text: str) -> list[str]:
    return [word for word in _words(_plain(text)) if word.lower() not in noise]


def told_apart(found: Sequence[Named], arm_of: Mapping[str, str], *, copies: bool = False) -> list[str]:
    """The arm of each name. Names that differ in anything but step and seed are of different arms.

    Those that differ only in plain words of the folders above their arm's stay one arm where the one has no steps but
    the other's (an evaluation made twice). `copies`: a `best` or `last` next to numbered steps is of the same training.
    Raises KiyasError where no names can be found that differ.
    """
    arms = [name.arm for name in found]
    for short in dict.fromkeys(arms):
        mine = [at for at, name in enumerate(found) if arms[at] == short != BASE_ARM and not name.given]
        keys = _keys([found[at] for at in mine], copies)
        if len(set(keys)) < 2:
            continue
        outer = frozenset(word for at in mine for word in found[at].outer)
        new = _new_names(short, list(dict.fromkeys(keys)), outer, set(arms))
        for at, key in zip(mine, keys, strict=True):
            arms[at] = arm_of.get(new[key], new[key])
    return arms


Key = tuple[str, ...]


def _keys(names: list[Named], copies: bool) -> list[Key]:
    """The words by which each name of one arm is told apart."""
    if copies:
        bare = {_bare(name.label): name.label for name in names if name.step is not None}
        return [name.label if name.step is not None else bare.get(_bare(name.label), name.label) for name in names]
    steps: dict[Key, set[tuple[int, int | None]]] = defaultdict(set)
    for name in names:
        steps[name.label].add((name.seed, name.step))
    longest: dict[Key, Key] = {}
    for name in sorted(names, key=lambda name: -len(steps[name.label])):
        if name.core is not None:
            longest.setdefault(name.core, name.label)
    main = [name.label if name.core is None else longest[name.core] for name in names]
    return [key if steps[name.label] <= steps[key] else name.label for name, key in zip(names, main, strict=True)]


def _bare(label: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in label if word.lower() not in PLACES)


def _new_names(short: str, keys: list[Key], outer: frozenset[str], taken: set[str]) -> dict[Key, str]:
    """A name for each: the common one, and what is its own; that alone where a folder further out is the name."""
    common = {*set.intersection(*map(set, keys)), *_words(short)}
    rest = {key: [word for word in key if word not in common] for key in keys}
    own = {key: "-".join(each) for key, each in rest.items()}
    named = all(each and all(word.isalpha() and word in outer for word in each) for each in rest.values())
    if not named or not taken.isdisjoint(own.values()):
        own = {key: "-".join([short, *each]) for key, each in rest.items()}
    if len(set(own.values())) < len(keys):
        own = {key: "-".join([short, *key]) for key in keys}
    if len(set(own.values())) < len(keys):
        raise KiyasError(
            f"the names of arm {short} are of different trainings, but no name tells them apart: "
            + "; ".join(map(" ".join, keys)),
            "name their arms: --arm PATH_OR_GLOB=ARM",
        )
    return own


def in_study(arms: Sequence[str]) -> list[str]:
    """The same arms by names that a study file takes. Raises KiyasError where two would become one."""
    fit = {arm: "".join(map(_in_name, unicodedata.normalize("NFC", arm))).strip("-._")[:64] or "arm" for arm in arms}
    for arm, other in itertools.combinations(fit, 2):
        if fit[arm].casefold() == fit[other].casefold():
            raise KiyasError(
                f"arms {arm} and {other} would both be called {fit[arm]} in a study file",
                f"name them: --arm '{arm}=ONE' --arm '{other}=TWO'",
            )
    return [fit[arm] for arm in arms]


def _in_name(char: str) -> str:
    return char if char in "._-" or unicodedata.category(char)[0] in "LMN" else "-"


def notes_of(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """What to say where one name became several arms."""
    new: dict[str, set[str]] = defaultdict(set)
    for short, arm in zip(before, after, strict=True):
        new[short].add(arm)
    remarks = []
    for short, arms in new.items():
        if len(arms) > 1:
            join = " ".join(f"--arm '{arm}={short}'" for arm in sorted(arms) if arm != short)
            remarks.append(
                f"the names of {short} differ in more than the step: read as {len(arms)} arms, "
                f"{', '.join(sorted(arms))}; if they are one training, join them with {join}"
            )
    return remarks


def of_log(path: Path, arm_of: Mapping[str, str], known: Iterable[str], folders: Sequence[str] | None = None) -> Named:
    """A training log's arm: the user's word, else one known from the outcomes, else the name's first word."""
    name, above = _parts(path, folders)
    stem = COPY.sub("", _stem(name))
    texts = [stem.rsplit("__", 1)[-1], *above]
    saying = [at for at, text in enumerate(texts) if tokens(text) or not at][:3]
    words = [word for at in saying for word in tokens(texts[at]) if word.lower() not in PLACES]
    everything = [word.casefold() for text in texts[: saying[-1] + 1] for word in _words(text)]
    arm = given(path, arm_of) or _known(known, everything, words)
    found = arm or (words[0] if words else next((_joined(text) for text in texts if _joined(text)), stem))
    # Only numbers, dates and other scripts tell logs apart by name; their losses do the rest.
    stamped = STAMP.sub(" ", texts[0]) if tokens(STAMP.sub(" ", texts[0])) else texts[0]
    label, _ = _label([stamped, *above], -1, False)
    label = tuple(word for word in label if not _is_plain(word) and word.lower() not in PLACES)
    mine = given(path, arm_of) is not None or found in arm_of
    return Named(arm_of.get(found, found), _number(SEED, texts) or 0, None, None, label=label, given=mine)


EXPORT = re.compile(r"wandb_export|export|history|charts?|plot", re.IGNORECASE)
"""A file that a tracker named: the runs in it say whose it is."""


def of_run(run: str, arm_of: Mapping[str, str], known: Iterable[str]) -> Named:
    """The arm of a run in a tracker's export."""
    path = Path(run.replace("/", "_"))
    named = of_outcomes(path, arm_of, ())
    if named.arm == BASE_ARM and not named.given:  # nobody trains the base
        named = replace(named, arm=_joined(run))
    arm = None if named.given else _known(known, [word.casefold() for word in _words(run)], tokens(run))
    return named if arm is None else replace(named, arm=arm_of.get(arm, arm))


def _known(known: Iterable[str], everything: list[str], words: list[str]) -> str | None:
    """The known arm whose words are all in the name: the one with most of them, then the one that is named first."""
    first = {word.lower(): at for at, word in reversed(list(enumerate(words)))}
    fitting: list[tuple[int, int, str]] = []
    for arm in known:
        each = [word.casefold() for word in _words(arm)] or [arm.casefold()]
        if all(word in everything for word in each):
            at = min((first[word] for word in each if word in first), default=len(words))
            fitting.append((-len(each), at, arm))
    return min(fitting)[2] if fitting else None


def contest_date(problem: str) -> date | None:
    """About when an AtCoder Beginner Contest took place: abc365 on 2024-08-03, one a week."""
    match = re.match(r"abc(\d{3})(?:_|$)", problem)
    return date(2024, 8, 3) + timedelta(days=7 * (int(match.group(1)) - 365)) if match else None
