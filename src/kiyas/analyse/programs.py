"""Programs as texts: behaviour on the tests, and how much of them is in the training data.

Theory of copying. All training solutions and all programs lie end to end in one array of token ids; a mark that
occurs once follows each. `levels[j]` numbers the windows of 2^j tokens: equal windows have equal numbers, and
the numbers are in the order of the tokens (prefix doubling, Manber & Myers 1993). The training suffixes nearest to a
program's suffix in that order share most with it; how much is read off the levels, longest windows first. Near-
duplicates share one of their rarest 5-grams (prefix filtering, Chaudhuri et al. 2006): only such pairs are compared.
Nothing is approximate; tests/analyse/test_programs.py compares with a dull loop.
"""

from __future__ import annotations

import contextlib
import io
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kiyas.judge import Outcome
from kiyas.judge.fences import fenced_blocks
from kiyas.types import Judgment

Ints = NDArray[np.int64]
GRAM = 5
_KEPT = (tokenize.NAME, tokenize.NUMBER, tokenize.STRING, tokenize.OP)
_BLOCK, _PAIRS = 250, 10_000
"""programs looked at together, and pairs of them with solutions compared at a time"""


def behaviour_on_tests(answer: Judgment) -> tuple[tuple[Outcome, str], ...] | None:
    """Per test the verdict, and what was printed where it failed. None where single tests were not recorded."""
    return tuple((test.verdict, test.got) for test in answer.tests) or None


def code(answer: str) -> str:
    """The fenced blocks of a training answer, all of them; without a fence the whole of it."""
    blocks = fenced_blocks(answer)
    return "".join(block.code for block in blocks) if blocks else answer


def tokens(program: str) -> list[str]:
    """Python's names, numbers, strings and operators; comments and layout aside. Up to where it is not Python."""
    found: list[str] = []
    # A program that is cut off still has a beginning; half a character is an error from Python 3.12 on.
    with contextlib.suppress(tokenize.TokenError, SyntaxError, UnicodeEncodeError):
        found.extend(t.string for t in tokenize.generate_tokens(io.StringIO(program).readline) if t.type in _KEPT)
    return found


@dataclass(frozen=True)
class Overlap:
    """`run`: longest run of the program's `tokens` in a training solution; `solution`: its number, -1 where none.

    `near`: the 5-grams of the program and of some solution have a Jaccard similarity of at least 0.8.
    """

    tokens: int
    run: int
    solution: int
    near: bool


PART = 4_000_000
"""Tokens of solutions that are looked at together: some hundred bytes of memory each."""


def matches(programs: Sequence[Sequence[str]], solutions: Iterable[Sequence[str]]) -> list[Overlap]:
    """Each program against all solutions, as tokens. O(N log² N) for N tokens in all, a part of them at a time."""
    found = [Overlap(len(program), 0, -1, False) for program in programs]
    before = 0
    for part in _parts(solutions):
        for n, each in enumerate(_matches(programs, part)):
            last = found[n]
            if each.run > last.run:
                last = Overlap(last.tokens, each.run, before + each.solution, last.near)
            found[n] = replace(last, near=last.near or each.near)
        before += len(part)
    return found


def _parts(solutions: Iterable[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    part: list[Sequence[str]] = []
    size = 0
    for solution in solutions:
        if part and size + len(solution) > PART:
            yield part
            part, size = [], 0
        part.append(solution)
        size += len(solution)
    if part:
        yield part


def _matches(programs: Sequence[Sequence[str]], solutions: Sequence[Sequence[str]]) -> list[Overlap]:
    # The same tokens twice need be looked at only once.
    texts = list(dict.fromkeys(map(tuple, programs)))
    sources = list(dict.fromkeys(map(tuple, solutions)))
    if not texts or not sources:
        return [Overlap(len(program), 0, -1, False) for program in programs]
    first = {source: n for n, source in reversed(list(enumerate(map(tuple, solutions))))}
    docs = [*sources, *texts]
    sizes = np.array([len(doc) for doc in docs])
    starts = np.concatenate([[0], np.cumsum(sizes + 1)])
    levels = _levels(_ids(docs), 1 + max(map(len, texts)))
    run, where = _longest_runs(levels, starts, len(sources))
    near = _near_duplicates(levels, starts, sizes, len(sources))
    known = {
        text: Overlap(len(text), int(run[n]), first[sources[where[n]]] if run[n] else -1, bool(near[n]))
        for n, text in enumerate(texts)
    }
    return [known[tuple(program)] for program in programs]


def _ids(docs: list[tuple[str, ...]]) -> Ints:
    """All tokens as numbers, after each document a mark that occurs once."""
    number: dict[str, int] = {}
    plain = [number.setdefault(token, len(number)) for doc in docs for token in doc]
    ends = np.cumsum([len(doc) for doc in docs])
    marks = len(number) + np.arange(len(docs))
    return np.insert(np.array(plain, dtype=np.int64), ends, marks)


def _levels(ids_N: Ints, longest: int) -> list[Ints]:
    """levels[j]: windows of 2^j tokens by rank, up to windows of at least `longest` tokens."""
    levels = [ids_N]
    while (width := 1 << (len(levels) - 1)) < longest:
        last = levels[-1]
        follows = np.full_like(last, -1)
        follows[: max(0, last.size - width)] = last[width:]
        levels.append(_ranks(last * (last.size + 1) + follows + 1))
    return levels


def _ranks(keys_N: Ints) -> Ints:
    order = np.argsort(keys_N)
    ranks = np.empty_like(keys_N)
    ranks[order] = np.concatenate([[0], np.cumsum(np.diff(keys_N[order]) != 0)])
    return ranks


def _longest_runs(levels: list[Ints], starts: Ints, sources: int) -> tuple[Ints, Ints]:
    """For each program the longest run that is in a solution, and the solution's number."""
    N, first = levels[0].size, int(starts[sources])
    order = np.argsort(levels[-1], kind="stable")
    trained = np.where(order < first, np.arange(N), -1)
    before = np.maximum.accumulate(trained)
    trained[trained < 0] = N
    after = np.minimum.accumulate(trained[::-1])[::-1]
    mine = np.flatnonzero(order >= first)
    best, where = np.zeros(N - first, dtype=np.int64), np.zeros(N - first, dtype=np.int64)
    for neighbour in (before[mine], after[mine]):
        there = (neighbour >= 0) & (neighbour < N)
        i, j = order[mine[there]], order[neighbour[there]]
        length = _common(levels, i, j)
        longer = length > best[i - first]
        best[i[longer] - first], where[i[longer] - first] = length[longer], j[longer]
    runs, solutions = [], []
    for start, end in zip(starts[sources:-1] - first, starts[sources + 1 :] - first, strict=True):
        top = int(start + np.argmax(best[start:end]))
        runs.append(best[top])
        solutions.append(np.searchsorted(starts, where[top], side="right") - 1)
    return np.array(runs), np.array(solutions)


def _common(levels: list[Ints], i: Ints, j: Ints) -> Ints:
    """Tokens that the suffixes at i and j begin with alike. The mark after a program ends every run."""
    length = np.zeros_like(i)
    for level in range(len(levels) - 1, -1, -1):
        length += (levels[level][i + length] == levels[level][j + length]).astype(np.int64) << level
    return length


def _near_duplicates(levels: list[Ints], starts: Ints, sizes: Ints, sources: int) -> NDArray[np.bool_]:
    """Which programs have a solution with |A ∩ B| ≥ 0.8 |A ∪ B|, A and B being their sets of 5-grams."""
    near = np.zeros(len(sizes) - sources, dtype=np.bool_)
    doc = np.repeat(np.arange(len(sizes)), np.maximum(0, sizes - GRAM + 1))
    if doc.size == 0 or len(levels) < 3:
        return near
    at = starts[doc] + np.arange(doc.size) - np.searchsorted(doc, doc)
    grams = _ranks(levels[2][at] * (levels[0].size + 1) + levels[0][at + GRAM - 1])
    width = int(grams.max()) + 1
    pairs = np.unique(doc * width + grams)
    doc, grams = pairs // width, pairs % width
    sets = sparse.csr_matrix((np.ones(doc.size, dtype=np.int32), (doc, grams)), shape=(len(sizes), width))
    count = np.bincount(doc, minlength=len(sizes))
    # The rarest grams first: of n, the first n - ceil(0.8 n) + 1 must meet one of the other's.
    order = np.lexsort((np.bincount(grams)[grams], doc))
    place = np.arange(doc.size) - np.searchsorted(doc, doc)
    kept = order[place < (count - -(-4 * count // 5) + 1)[doc]]
    rare = sparse.csr_matrix((np.ones(kept.size, dtype=np.int32), (doc[kept], grams[kept])), shape=sets.shape)
    solutions = rare[:sources].T.tocsr()
    for start in range(sources, len(sizes), _BLOCK):
        met = (rare[start : start + _BLOCK] @ solutions).tocoo()
        a, b = met.row.astype(np.int64) + start, met.col.astype(np.int64)
        alike = 5 * np.minimum(count[a], count[b]) >= 4 * np.maximum(count[a], count[b])
        # One near solution is enough, and those that share most of the rare grams are likeliest.
        likely = np.argsort(-met.data[alike], kind="stable")
        a, b = a[alike][likely], b[alike][likely]
        for first in range(0, a.size, _PAIRS):
            x, y = a[first : first + _PAIRS], b[first : first + _PAIRS]
            x, y = x[~near[x - sources]], y[~near[x - sources]]
            both = np.asarray(sets[x].multiply(sets[y]).sum(axis=1)).ravel()
            near[x[5 * both >= 4 * (count[x] + count[y] - both)] - sources] = True
    return near
