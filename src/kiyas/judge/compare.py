"""Is the output right? Pure functions; each returns None for right, else the reason in words."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation, localcontext
from enum import StrEnum
from typing import Any

from .types import JudgeError, Problem

_NUMBER = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)


class Kind(StrEnum):
    """What an error is measured against."""

    EITHER = "either"
    ABSOLUTE = "absolute"
    RELATIVE = "relative"


@dataclass(frozen=True)
class Tolerance:
    """|a - b| <= error (absolute), error · |b| (relative), or error · max(1, |b|) (either)."""

    error: float
    kind: Kind = Kind.EITHER

    @classmethod
    def of(cls, problem: Problem) -> Tolerance | None:
        """What the problem says itself, or by its built-in checker."""
        if match := FLOATS.fullmatch(problem.checker or ""):
            return cls(float(match["error"]), Kind(match["kind"] or "either"))
        return None if problem.tolerance is None else cls(problem.tolerance)


FLOATS = re.compile(
    r"floats:(?:(?P<kind>absolute|relative):)?(?P<error>[0-9]{1,9}(?:\.[0-9]{1,30})?(?:e-?[0-9]{1,3})?)"
)


def built_in(checker: str) -> bool:
    """`unordered`, `case-insensitive`, `floats:…`; any other checker is Python source."""
    return checker in NAMED or FLOATS.fullmatch(checker) is not None


def check_checkers(problems: Iterable[Problem]) -> None:
    """Raises JudgeError for a checker that is neither built in nor Python source that defines `check`."""
    for problem in problems:
        if problem.checker is not None and not built_in(problem.checker) and "check" not in problem.checker:
            raise JudgeError(
                f"problem {problem.id}: the checker {problem.checker[:60]!r} is not known",
                "unordered, case-insensitive, floats:1e-6, floats:absolute:1e-6, floats:relative:1e-6, or Python "
                "source of check(input, expected, output)",
            )


def unordered(got: bytes | bytearray, expected: str) -> str | None:
    """The same lines in any order; white space as in `strict`, empty lines do not count."""
    theirs = Counter(tuple(line) for line in _token_lines(expected, 0) if line)
    lines = (tuple(line) for line in _token_lines(got, 0, _most_tokens(expected)) if line)
    ours = Counter(itertools.islice(lines, theirs.total() + 1))  # how many come after that does not matter
    if ours == theirs:
        return None
    lacking, surplus = theirs - ours, ours - theirs
    if ours.total() > theirs.total():
        lacking.clear()
    line, what = (next(iter(lacking)), "missing") if lacking else (next(iter(surplus)), "not expected")
    return f"in any order: the line {_show(b' '.join(line))} is {what}"


def case_insensitive(got: bytes | bytearray, expected: str) -> str | None:
    """As `strict`, upper and lower case being the same."""
    return strict(got.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape"), expected.lower())


NAMED: dict[str, Callable[[bytes | bytearray, str], str | None]] = {
    "unordered": unordered,
    "case-insensitive": case_insensitive,
}


def strict(got: bytes | bytearray, expected: str, tolerance: Tolerance | None = None) -> str | None:
    """Line by line, token by token. With a tolerance, tokens that are numbers may differ by it.

    White space inside and at the end of a line, and empty lines at the very end, do not count. Outputs may be large:
    most are right to the letter, the others are looked at line by line.
    """
    at, lines = _common(got, expected)
    if at < 0:
        return None
    most = _most_tokens(expected)
    ours, theirs = _token_lines(got, at, most), _token_lines(expected, at)
    for number, (a, b) in enumerate(itertools.zip_longest(ours, theirs), lines + 1):
        if a is None or b is None:
            rest = next(filter(None, itertools.chain([a or b], ours, theirs)))
            return f"line {number}: " + (f"missing, expected {_show(rest[0])}" if a is None else "more than expected")
        if a == b:
            continue
        if len(a) != len(b):
            return f"line {number}: {f'more than {most}' if len(a) > most else len(a)} tokens, expected {len(b)}"
        for column, (x, y) in enumerate(zip(a, b, strict=True), 1):
            if x != y and (tolerance is None or not close(x, y, tolerance)):
                return f"line {number}, token {column}: {_show(x)}, expected {_show(y)}"
    return None


def encoded(text: str) -> Iterator[bytes]:
    """UTF-8 piece by piece, so that a large text is never in memory as bytes too."""
    for start in range(0, len(text), 1 << 20):
        yield text[start : start + (1 << 20)].encode("utf-8", "surrogatepass")


def _common(got: bytes | bytearray, expected: str) -> tuple[int, int]:
    """(offset of a line before which both are the same to the letter, lines before it); -1: all of it is the same.

    White space at the very end does not count. Where the expected output is not ASCII, offsets of bytes and of
    characters differ, and everything is looked at again.
    """
    ours, theirs = len(got.rstrip()), len(expected.rstrip(BLANKS))
    at = 0
    for piece in encoded(expected[:theirs]):
        if got[at : at + len(piece)] != piece:
            break
        at += len(piece)
    else:
        if at == ours:
            return -1, 0
    at = min(at, ours)
    start = got.rfind(b"\n", 0, at) + 1 if expected.isascii() else 0
    return start, got.count(b"\n", 0, start)


BLANKS = " \t\n\r\x0b\x0c"  # what bytes.split() calls white space


def _most_tokens(expected: str) -> int:
    """More than it can have in a line: of an output that has more the rest is not taken apart."""
    return 1000 + len(expected)


def _token_lines(text: Any, start: int, most: int = -1) -> Iterator[list[bytes]]:
    """Tokens of each line of bytes, or of a str, from `start` on; empty lines at the end are left out.

    What comes after `most` tokens of a line is one more.
    """
    newline, blanks = ("\n", BLANKS) if isinstance(text, str) else (b"\n", None)
    stop = len(text.rstrip(blanks))
    while start <= stop:
        end = text.find(newline, start, stop)
        end = stop if end < 0 else end
        line = text[start:end]
        yield (line.encode("utf-8", "surrogatepass") if isinstance(line, str) else bytes(line)).split(None, most)
        start = end + 1


def close(a: bytes, b: bytes, tolerance: Tolerance) -> bool:
    """Two decimal numbers within the tolerance; infinities by sign; nan is close to nothing."""
    if not (_NUMBER.fullmatch(a) and _NUMBER.fullmatch(b)):
        return False
    return close_numbers(a.decode(), b.decode(), tolerance)


def close_numbers(a: str, b: str, tolerance: Tolerance) -> bool:
    """As the decimals that are written there: the borders count, and so does every digit."""
    x, y = float(a), float(b)
    if math.isfinite(x) and math.isfinite(y):
        gap, limit = abs(x - y), tolerance.error * _scale(abs(y), tolerance.kind)
        doubt = 1e-15 * (abs(x) + abs(y) + limit)
        if math.isfinite(gap + limit) and abs(gap - limit) > doubt:
            return bool(gap < limit)
    elif math.isnan(x) or math.isnan(y):
        return False
    try:
        with localcontext(Context(prec=max(50, len(a) + len(b) + 50), Emax=MAX_EMAX, Emin=MIN_EMIN)):
            exact_x, exact_y = Decimal(a), Decimal(b)
            if exact_x.is_infinite() or exact_y.is_infinite():
                return exact_x == exact_y
            scale = _scale(abs(exact_y), tolerance.kind)
            return bool(abs(exact_x - exact_y) <= Decimal(repr(tolerance.error)) * scale)
    except (ArithmeticError, MemoryError):
        return False


def _scale(size: Any, kind: Kind) -> Any:
    return 1 if kind is Kind.ABSOLUTE else size if kind is Kind.RELATIVE else max(1, size)


def strict_json(got: Any, expected: Any, tolerance: Tolerance | None = None) -> bool:
    """Equal as JSON: numbers by value, but true is not 1; within the tolerance where one is given."""
    if isinstance(got, bool) or isinstance(expected, bool):
        return got is expected
    if isinstance(got, int | float) and isinstance(expected, int | float):
        if got == expected:
            return True
        return tolerance is not None and close_numbers(_digits(got), _digits(expected), tolerance)
    if isinstance(got, list) and isinstance(expected, list):
        return len(got) == len(expected) and all(
            strict_json(a, b, tolerance) for a, b in zip(got, expected, strict=True)
        )
    if isinstance(got, dict) and isinstance(expected, dict):
        return got.keys() == expected.keys() and all(strict_json(got[k], expected[k], tolerance) for k in got)
    return type(got) is type(expected) and bool(got == expected)


def _digits(number: int | float) -> str:
    """Also of an integer with more digits than `str` writes."""
    return str(Decimal(number)) if isinstance(number, int) else repr(number)


def livecodebench(got: str, expected: str) -> str | None:
    """LiveCodeBench's rule: strip, split into lines, strip those; a line is equal as text or as a list of decimals."""
    got, expected = got.strip(), expected.strip()
    lines, wanted = got.count("\n") + 1, expected.count("\n") + 1
    if lines != wanted:
        return f"{lines} lines, expected {wanted}"
    ours, theirs = _stripped_lines(got), _stripped_lines(expected)
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True), 1):
        if a == b:
            continue
        wanted_words = b.split()
        words = a.split(None, len(wanted_words))
        try:
            if len(words) == len(wanted_words) and [*map(Decimal, words)] == [*map(Decimal, wanted_words)]:
                continue
        except (InvalidOperation, ValueError):
            pass
        return f"line {number}: {a[:100]!r}, expected {b[:100]!r}"
    return None


def _stripped_lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n")]


def livecodebench_json(got: Any, expected: str) -> bool:
    """Python's == between the result and the expected JSON value; no nan is another, not even inside a list."""
    return bool(got == json.loads(expected, parse_constant=float))


def _show(token: bytes) -> str:
    text = token[:60].decode("utf-8", "replace")
    return repr(text) + ("…" if len(token) > 60 else "")
