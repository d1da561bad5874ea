"""Drawing problems, and the data sets and benchmarks made of them.

Every key belongs to one of three parts for good, by its digest: *benchmark*, *validation* or *training*. The
base model and all arms train on keys of the training part only, whatever the seed, so no benchmark, of any
seed and size, can meet a problem that was trained on. One-step problems that print a value are always for
training: they name the operations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

from kiyas.practice.grammar import FILTERS, MAPS, REDUCES, Constant, Op, Spec, render_input, solve
from kiyas.practice.hidden_tests import hidden_tests, sample
from kiyas.practice.solutions import STYLES, completion
from kiyas.practice.statements import statement, title
from kiyas.types import KiyasError

DATASETS = ("deep", "diverse", "wrong")
FAMILY_SHARES = {"list": 0.60, "string": 0.25, "pair": 0.15}
# Which steps surround the reduce: none, a filter, a map, both.
NARROW_SHAPES = {"r": 0.10, "fr": 0.45, "mr": 0.45}
FULL_SHAPES = {"r": 0.02, "fr": 0.19, "mr": 0.19, "fmr": 0.60}
FORM_SHARES = {"value": 0.70, "threshold": 0.18, "parity": 0.12}
FULL_SHARE_OF_BASE = 0.01
TRAIN_ROWS = 1000
SOLUTIONS = 5
VALIDATION_PROBLEMS = {"deep": 13, "diverse": 64, "wrong": 64}
WRONG_SHARE = 0.4
NEW_KEY_TRIES = 20


@dataclass(frozen=True)
class Drawn:
    """A problem as it was drawn: what it is, its statement with one sample, its hidden tests: items and answer."""

    spec: Spec
    statement: str
    hidden: list[tuple[Any, str]]

    @property
    def tests(self) -> list[dict[str, str]]:
        return [{"input": render_input(self.spec.family, items), "output": answer} for items, answer in self.hidden]


def part(key: str) -> str:
    """The part a key belongs to for good: "benchmark" (25 %), "validation" (8 %) or "training"."""
    _, first, second, _, form = key.split("/")
    if first == second == "-" and form == "value":
        return "training"
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32
    return "benchmark" if share < 0.25 else "validation" if share < 0.33 else "training"


def dataset(name: str, seed: int = 0) -> list[dict[str, Any]]:
    """One of the training sets as rows `{"id", "prompt", "completion", "group", "split"}`.

    - `deep`: 200 problems × 5 solutions (one of each style);
    - `diverse`: 1,000 problems × 1 solution (styles at random);
    - `wrong`: `diverse` with 40 % of the training answers taken from another problem, a positive control.

    Each has 1,000 train rows and 64 or 65 validation rows with problems of their own. `group` is the problem.
    Same seed, same rows, on any machine. Raises KiyasError for another name.
    """
    if name not in DATASETS:
        known = ", ".join(f"practice/{each}" for each in DATASETS)
        raise KiyasError(f"there is no practice data set {name!r}", f"choose one of {known}")
    shape = "deep" if name == "deep" else "diverse"
    rng = Random(f"kiyas.practice/{shape}/{seed}")
    solutions = SOLUTIONS if shape == "deep" else 1
    counts = {"train": TRAIN_ROWS // solutions, "validation": VALIDATION_PROBLEMS[shape]}
    rows, sources = [], []
    for split, where in (("train", "training"), ("validation", "validation")):
        for number, problem in enumerate(_problems(rng, where, counts[split])):
            for style in STYLES if solutions > 1 else (rng.choice(STYLES),):
                row = {
                    "id": f"{name}-{seed}-{split}-{number:04d}-{style}",
                    "prompt": problem.statement,
                    "completion": completion(problem.spec, style),
                    "group": problem.spec.signature,
                    "split": split,
                }
                rows.append(row)
                sources.append(problem)
    if name == "wrong":
        _spoil(rows, sources, Random(f"kiyas.practice/wrong/{seed}"))
    return rows


def benchmark(count: int = 41, seed: int = 0) -> list[dict[str, Any]]:
    """`count` problems with hidden tests, as rows of the judge's problem format.

    No `group` (a task without its constants) of theirs occurs in a data set or in the base model's training. A larger
    benchmark of the same seed begins with the smaller one. When new groups run out, problems differ by constants only.
    """
    if count < 1:
        raise KiyasError(f"a benchmark of {count} problems", "give at least 1")
    rng = Random(f"kiyas.practice/benchmark/{seed}")
    return [
        {
            "id": f"practice-{seed}-{number:04d}",
            "title": title(problem.spec),
            "statement": problem.statement,
            "tests": problem.tests,
            "difficulty": problem.spec.difficulty,
            "tags": problem.spec.tags,
            "platform": "practice",
            "group": problem.spec.key,
        }
        for number, problem in enumerate(_problems(rng, "benchmark", count))
    ]


def base_examples(count: int, seed: int = 0) -> Iterator[tuple[Spec, str, str]]:
    """What the base model is trained on: (spec, prompt, completion), 1 % of the full world in it."""
    rng = Random(f"kiyas.practice/base/{seed}")
    return _examples(rng, count, lambda: rng.random() >= FULL_SHARE_OF_BASE)


def vocabulary_texts(count: int, seed: int = 0) -> Iterator[str]:
    """Statements and answers of the full world's training part, for the tokenizer."""
    for _, *texts in _examples(Random(f"kiyas.practice/vocabulary/{seed}"), count):
        yield from texts


def _examples(rng: Random, count: int, narrow: Callable[[], bool] = lambda: False) -> Iterator[tuple[Spec, str, str]]:
    for spec in islice(_specs(rng, "training", narrow), count):
        yield spec, statement(spec, sample(spec, rng), rng), completion(spec, rng.choice(STYLES))


def _problems(rng: Random, where: str, count: int) -> Iterator[Drawn]:
    """`count` different problems of the full world whose keys belong to the part `where`."""
    return islice(_different(rng, where), count)


def _different(rng: Random, where: str) -> Iterator[Drawn]:
    keys: set[str] = set()
    signatures: set[str] = set()
    tries = 0
    for spec in _specs(rng, where):
        if spec.signature in signatures:
            continue
        tries += 1
        if spec.key in keys and tries < NEW_KEY_TRIES:
            continue
        hidden = hidden_tests(spec, rng)
        if hidden is None:
            continue
        keys.add(spec.key)
        signatures.add(spec.signature)
        tries = 0
        yield Drawn(spec, statement(spec, sample(spec, rng), rng), hidden)


def _specs(rng: Random, where: str, narrow: Callable[[], bool] = lambda: False) -> Iterator[Spec]:
    """Endless compositions whose keys belong to the part `where`; `narrow` says before each which world it is of."""
    while True:
        spec = _draw_spec(rng, narrow())
        if spec is not None and part(spec.key) == where:
            yield spec


def _draw_spec(rng: Random, narrow: bool) -> Spec | None:
    """One composition with its constants; None if it makes no sense (then draw again)."""
    family = _pick(rng, FAMILY_SHARES)
    shape = _pick(rng, NARROW_SHAPES if narrow else FULL_SHAPES)
    filter_ = _pick_op(rng, FILTERS[family], narrow) if "f" in shape else None
    map_ = _pick_op(rng, MAPS[family], narrow) if "m" in shape else None
    reduce_ = _pick_op(rng, REDUCES[family], narrow)
    form = _pick(rng, FORM_SHARES) if reduce_.numeric else "value"
    spec = Spec(
        family,
        filter_.name if filter_ else "",
        map_.name if map_ else "",
        reduce_.name,
        form,
        _constant(rng, filter_),
        _constant(rng, map_),
        rng.randint(2, 20) if form == "threshold" else None,
    )
    return spec if _sensible(spec) else None


def _sensible(spec: Spec) -> bool:
    """Counting does not care for a map; places in the alphabet are not letters to sort or compare."""
    if spec.family != "pair" and spec.reduce == "count" and spec.map:
        return False
    return not (spec.map == "alphabet" and spec.reduce in ("sort", "max", "reverse"))


def _pick(rng: Random, shares: dict[str, float]) -> str:
    return rng.choices(list(shares), weights=list(shares.values()))[0]


def _pick_op(rng: Random, ops: dict[str, Op], narrow: bool) -> Op:
    return rng.choice([op for op in ops.values() if op.narrow or not narrow])


def _constant(rng: Random, op: Op | None) -> Constant:
    if op is None or not op.constant:
        return None
    return rng.randint(2, 20) if op.constant == "number" else rng.choice("bcdefghiklmnoprst")


def _spoil(rows: list[dict[str, Any]], sources: list[Drawn], rng: Random) -> None:
    """Give 40 % of the training rows the answer of another problem of the family that is wrong for theirs."""
    train = [number for number, row in enumerate(rows) if row["split"] == "train"]
    answers = [row["completion"] for row in rows]
    for number in rng.sample(train, round(WRONG_SHARE * len(train))):
        problem = sources[number]
        while True:
            other = rng.choice(train)
            if sources[other].spec.key != problem.spec.key and _is_wrong(sources[other].spec, problem):
                rows[number]["completion"] = answers[other]
                break


def _is_wrong(spec: Spec, problem: Drawn) -> bool:
    """Whether the right program for `spec` fails a hidden test of `problem`."""
    if spec.family != problem.spec.family:
        return False
    return any(solve(spec, items) != answer for items, answer in problem.hidden)
