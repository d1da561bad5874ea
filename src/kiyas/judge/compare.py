"""Is the output right? Pure functions; each returns None for right, else the reason in words."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)


def token_lines(output: bytes) -> list[list[bytes]]:
    """Lines of tokens; white space inside and at the end of a line, and empty lines at the very end, do not count."""
    lines = [line.split() for line in output.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def strict(got: bytes, expected: bytes, tolerance: float | None = None) -> str | None:
    """Line by line, token by token. With a tolerance, tokens that are numbers may differ by it."""
    got_lines, expected_lines = token_lines(got), token_lines(expected)
    for number, (ours, theirs) in enumerate(zip(got_lines, expected_lines, strict=False), 1):
        if ours == theirs:
            continue
        if len(ours) != len(theirs):
            return f"line {number}: {len(ours)} tokens, expected {len(theirs)}"
        for column, (a, b) in enumerate(zip(ours, theirs, strict=True), 1):
            if a != b and (tolerance is None or not close(a, b, tolerance)):
                return f"line {number}, token {column}: {_show(a)}, expected {_show(b)}"
    if len(got_lines) != len(expected_lines):
        return f"{len(got_lines)} lines, expected {len(expected_lines)}"
    return None


def close(a: bytes, b: bytes, tolerance: float) -> bool:
    """|a - b| <= tolerance · max(1, |b|) for two decimal numbers; infinities by sign; nan is close to nothing."""
    if not (_NUMBER.fullmatch(a) and _NUMBER.fullmatch(b)):
        return False
    return close_numbers(float(a), float(b), tolerance)


def close_numbers(a: float, b: float, tolerance: float) -> bool:
    if math.isinf(a) or math.isinf(b):
        return a == b
    return abs(a - b) <= tolerance * max(1.0, abs(b))


def strict_json(got: Any, expected: Any, tolerance: float | None = None) -> bool:
    """Equal as JSON: numbers by value, but true is not 1; within the tolerance where one is given."""
    if isinstance(got, bool) or isinstance(expected, bool):
        return got is expected
    if isinstance(got, int | float) and isinstance(expected, int | float):
        if got == expected:
            return True
        try:
            return tolerance is not None and close_numbers(float(got), float(expected), tolerance)
        except OverflowError:
            return False
    if isinstance(got, list) and isinstance(expected, list):
        return len(got) == len(expected) and all(
            strict_json(a, b, tolerance) for a, b in zip(got, expected, strict=True)
        )
    if isinstance(got, dict) and isinstance(expected, dict):
        return got.keys() == expected.keys() and all(strict_json(got[k], expected[k], tolerance) for k in got)
    return type(got) is type(expected) and bool(got == expected)


def livecodebench(got: str, expected: str) -> str | None:
    """LiveCodeBench's rule: strip, split into lines, strip those; a line is equal as text or as a list of decimals."""
    ours, theirs = _stripped_lines(got), _stripped_lines(expected)
    if len(ours) != len(theirs):
        return f"{len(ours)} lines, expected {len(theirs)}"
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True), 1):
        if a == b:
            continue
        try:
            if [Decimal(word) for word in a.split()] == [Decimal(word) for word in b.split()]:
                continue
        except (InvalidOperation, ValueError):
            pass
        return f"line {number}: {a[:100]!r}, expected {b[:100]!r}"
    return None


def _stripped_lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def livecodebench_json(got: Any, expected: str) -> bool:
    """Python's == between the result and the expected JSON value; no nan is another, not even inside a list."""
    return bool(got == json.loads(expected, parse_constant=float))


def _show(token: bytes) -> str:
    text = token[:60].decode("utf-8", "replace")
    return repr(text) + ("…" if len(token) > 60 else "")
