# mypy: disable-error-code="no-any-return, no-untyped-call, attr-defined, unused-ignore"
"""How many steps a backtracking matcher takes for a pattern: growth is counted, not timed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

LIMIT = 200_000
BOUND = 4


class TooManyError(Exception):
    pass


class Steps:
    """Matches as `re` does, greedy and backtracking, and counts the nodes it tries."""

    def __init__(self, pattern: str, flags: int, text: str) -> None:
        self.tree = list(parser.parse(pattern, flags))
        self.flags, self.text, self.count = flags, text, 0

    def search(self, *, anchored: bool, whole: bool) -> int:
        end: Callable[[int], bool] = (lambda at: at == len(self.text)) if whole else (lambda at: True)
        at = 0
        while at <= len(self.text):
            found: list[int] = []

            def done(stop: int, found: list[int] = found) -> bool:
                if end(stop):
                    found.append(stop)
                    return True
                return False

            self._match(self.tree, 0, at, done)
            if anchored:
                break
            at = max(found[0], at + 1) if found else at + 1
        return self.count

    def _match(self, nodes: list[Any], i: int, at: int, then: Callable[[int], bool]) -> bool:
        self.count += 1
        if self.count > LIMIT:
            raise TooManyError
        if i == len(nodes):
            return then(at)
        op, argument = nodes[i]

        def rest(stop: int) -> bool:
            return self._match(nodes, i + 1, stop, then)

        if op in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            return at < len(self.text) and self._one(op, argument, self.text[at]) and rest(at + 1)
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            low, high, inner = argument
            inner = list(inner)
            if high is not sre.MAXREPEAT:
                high = max(low, min(high, BOUND))  # a bound is a constant: a small one shows the growth sooner
            if len(inner) == 1 and inner[0][0] in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
                longest = 0
                while (
                    longest < high and at + longest < len(self.text) and self._one(*inner[0], self.text[at + longest])
                ):
                    longest += 1
                    self.count += 1
                return any(rest(at + k) for k in range(longest, low - 1, -1))
            return self._repeat(inner, low, high, at, rest)
        if op is sre.SUBPATTERN:
            return self._match(list(argument[-1]), 0, at, rest)
        if op is sre.BRANCH:
            return any(self._match(list(branch), 0, at, rest) for branch in argument[1])
        if op is sre.AT:
            return self._at(argument, at) and rest(at)
        if op in (sre.ASSERT, sre.ASSERT_NOT):
            direction, inner = argument
            starts = [at] if direction > 0 else [at - k for k in range(4) if at - k >= 0]
            holds = any(
                self._match(list(inner), 0, start, (lambda stop: True) if direction > 0 else (lambda stop: stop == at))
                for start in starts
            )
            return holds is (op is sre.ASSERT) and rest(at)
        raise NotImplementedError(op)

    def _repeat(self, inner: list[Any], low: int, high: int, at: int, rest: Callable[[int], bool]) -> bool:
        def again(done: int, where: int) -> bool:
            if done < high and self._match(inner, 0, where, lambda stop: stop > where and again(done + 1, stop)):
                return True
            return done >= low and rest(where)

        return again(0, at)

    def _at(self, where: Any, at: int) -> bool:
        text = self.text
        if where is sre.AT_BEGINNING_STRING or (where is sre.AT_BEGINNING and not self.flags & re.MULTILINE):
            return at == 0
        if where is sre.AT_BEGINNING:
            return at == 0 or text[at - 1] == "\n"
        if where in (sre.AT_BOUNDARY, sre.AT_NON_BOUNDARY):
            word = [0 <= k < len(text) and (text[k].isalnum() or text[k] == "_") for k in (at - 1, at)]
            return (word[0] != word[1]) is (where is sre.AT_BOUNDARY)
        if where is sre.AT_END and self.flags & re.MULTILINE:
            return at == len(text) or text[at] == "\n"
        return at == len(text) or (where is sre.AT_END and at == len(text) - 1 and text[at] == "\n")

    def _one(self, op: Any, argument: Any, sign: str) -> bool:
        if self.flags & re.IGNORECASE and op in (sre.LITERAL, sre.IN):
            return any(self._is(op, argument, each) for each in {sign, sign.lower(), sign.upper()[:1]})
        return self._is(op, argument, sign)

    def _is(self, op: Any, argument: Any, sign: str) -> bool:
        if op is sre.LITERAL:
            return ord(sign) == argument
        if op is sre.NOT_LITERAL:
            return ord(sign) != argument
        if op is sre.ANY:
            return bool(self.flags & re.DOTALL) or sign != "\n"
        negated = argument[0][0] is sre.NEGATE
        return any(_in(kind, value, sign) for kind, value in argument[negated:]) is not negated


def _in(kind: Any, value: Any, sign: str) -> bool:
    if kind is sre.LITERAL:
        return ord(sign) == value
    if kind is sre.RANGE:
        return value[0] <= ord(sign) <= value[1]
    test = {"DIGIT": str.isdigit, "SPACE": str.isspace, "WORD": lambda each: each.isalnum() or each == "_"}
    name = str(value).removeprefix("CATEGORY_")
    return test[name.removeprefix("NOT_")](sign) is not name.startswith("NOT_")


def attacks(pattern: str, flags: int) -> list[tuple[str, str, str]]:
    """(before, pumped, after): texts that pump each repetition, after what matches before it, and then do not match."""
    tree = parser.parse(pattern, flags)
    found = list[tuple[str, str, str]]()
    for before, pumped in _pumps(list(tree), ""):
        found += [(before, pumped, "\x01"), ("", before + pumped, "\x01"), (before, pumped, "\n")]
    return [each for each in dict.fromkeys(found) if each[1]]


def _pumps(nodes: list[Any], before: str) -> Iterator[tuple[str, str]]:
    for op, argument in nodes:
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            yield before, _sample(list(argument[2]))
            yield from _pumps(list(argument[2]), before)
            for other in " \t-0a'\"":
                if re.fullmatch(r"\s|.", other) and argument[1] > 100:
                    yield before, other
        elif op is sre.SUBPATTERN:
            yield from _pumps(list(argument[-1]), before)
        elif op is sre.BRANCH:
            for branch in argument[1]:
                yield from _pumps(list(branch), before)
        before += _sample([(op, argument)])
    yield "", before


def _sample(nodes: list[Any]) -> str:
    """A text that the nodes match (mostly)."""
    made = ""
    for op, argument in nodes:
        if op is sre.LITERAL:
            made += chr(argument)
        elif op in (sre.ANY, sre.NOT_LITERAL):
            made += "a"
        elif op is sre.IN:
            made += next(
                (sign for sign in "a0 -.\n:" + "".join(map(chr, range(33, 127))) if _member(argument, sign)), "İ"
            )
        elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            made += _sample(list(argument[2])) * max(1, argument[0])
        elif op is sre.SUBPATTERN:
            made += _sample(list(argument[-1]))
        elif op is sre.BRANCH:
            made += _sample(list(argument[1][0]))
    return made


def _member(argument: Any, sign: str) -> bool:
    negated = argument[0][0] is sre.NEGATE
    return any(_in(kind, value, sign) for kind, value in argument[negated:]) is not negated
