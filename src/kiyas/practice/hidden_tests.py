"""Hidden tests: eight or nine inputs for every problem, answered by the reference solver.

A problem is only accepted if its tests can distinguish right from wrong: not all answers are equal (no constant
program passes), a Yes/No question has at least two of each, and leaving out the filter or the map changes an
answer.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from kiyas.practice.grammar import Spec, solve, value

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SAMPLE_TRIES = 12


def sample(spec: Spec, rng: Random) -> Any:
    """A small input for the statement, one on which every step does something where that can be found."""
    items = _small(spec, rng)
    for _ in range(SAMPLE_TRIES):
        if _kept(spec, items) and (not spec.filter or _differs(spec, items)):
            return items
        items = _small(spec, rng)
    return items


def hidden_tests(spec: Spec, rng: Random) -> list[tuple[Any, str]] | None:
    """[(items, answer), …], or None if these tests cannot distinguish a right program from a wrong one."""
    inputs = _pairs(spec, rng) if spec.family == "pair" else _sequences(spec, rng)
    outputs = [solve(spec, items) for items in inputs]
    if len(set(outputs)) < 2:
        return None
    if spec.form != "value" and min(outputs.count("Yes"), outputs.count("No")) < 2:
        return None
    for simpler in (replace(spec, filter=""), replace(spec, map="")):
        if simpler != spec and [solve(simpler, items) for items in inputs] == outputs:
            return None
    return list(zip(inputs, outputs, strict=True))


def _kept(spec: Spec, items: Any) -> Any:
    """What the filter leaves; for pairs the items themselves."""
    op = spec.filter_op
    return op.apply(list(items), spec.filter_k) if op and spec.family != "pair" else items


def _differs(spec: Spec, items: Any) -> bool:
    return bool(value(spec, items) != value(replace(spec, filter=""), items))


def _small(spec: Spec, rng: Random) -> Any:
    if spec.family == "pair":
        return [rng.randint(2, 40), rng.randint(2, 40)]
    if spec.family == "string":
        return _word(spec, rng, rng.randint(5, 7))
    return _numbers(spec, rng, rng.randint(4, 5), -9, 25)


def _numbers(spec: Spec, rng: Random, count: int, low: int, high: int) -> list[int]:
    """Random integers; every third one lies at the filter's or the map's constant, or is a multiple of it."""
    near = [k for k in (spec.filter_k, spec.map_k) if isinstance(k, int)]
    numbers = [rng.randint(low, high) for _ in range(count)]
    for i, number in enumerate(numbers):
        if near and rng.random() < 1 / 3:
            k = rng.choice(near)
            numbers[i] = rng.choice((k, k + 1, k - 1, 2 * k, -k, number))
    return [min(max(number, low), high) for number in numbers]


def _word(spec: Spec, rng: Random, count: int) -> str:
    """Random letters, with many vowels and many of the filter's letter."""
    often = "aeiou" + (str(spec.filter_k) * 3 if spec.filter_k else "")
    return "".join(rng.choice(often if rng.random() < 0.5 else LETTERS) for _ in range(count))


def _sequences(spec: Spec, rng: Random) -> list[Any]:
    if spec.family == "string":
        made: list[Any] = [_word(spec, rng, rng.randint(5, 8)) for _ in range(3)]
        made += [_word(spec, rng, 40), rng.choice(LETTERS), rng.choice("aeiou") * rng.randint(2, 5)]
        made += ["".join(rng.choice("bcdfg") for _ in range(6)), "".join(rng.choice("xyz") for _ in range(4))]
        return [*made, *_emptied(spec, rng)]
    made = [_numbers(spec, rng, rng.randint(4, 6), -9, 25), _numbers(spec, rng, rng.randint(3, 7), -30, 60)]
    made.append(_numbers(spec, rng, 40, -1000, 1000))
    made.append(_numbers(spec, rng, rng.randint(4, 7), -60, -1))
    made.append(_numbers(spec, rng, rng.randint(4, 7), 1, 60))
    made.append(_numbers(spec, rng, 1, -20, 40))
    few = [rng.randint(-5, 25) for _ in range(3)]
    made.append([rng.choice(few) for _ in range(8)])
    made.append(_numbers(spec, rng, rng.randint(2, 3), 0, 9))
    return [*made, *_emptied(spec, rng)]


def _emptied(spec: Spec, rng: Random) -> list[Any]:
    """One input of which the filter leaves nothing, if there is a filter and one is found."""
    for _ in range(60 if spec.filter else 0):
        items = (
            "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 3)))
            if spec.family == "string"
            else [rng.randint(-25, 25) for _ in range(rng.randint(1, 3))]
        )
        if not _kept(spec, items):
            return [items]
    return []


def _pairs(spec: Spec, rng: Random) -> list[Any]:
    made = [[rng.randint(2, 40), rng.randint(2, 40)] for _ in range(3)]
    same = rng.randint(2, 99)
    return [
        *made,
        [rng.randint(100, 9999), rng.randint(100, 9999)],
        [rng.randint(1, 9), rng.randint(100, 999)],
        [rng.randint(100, 999), rng.randint(1, 9)],
        [same, same],
        [1, rng.randint(1, 3)],
        [rng.randint(1, 9) * 10, rng.randint(1, 9) * 100],
    ]
