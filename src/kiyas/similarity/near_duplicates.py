"""When two texts are the same, nearly the same, or hold the same run of words: exact, by MinHash, by n-grams.

Theory of operation. A text is the set of its shingles (`SHINGLE` tokens in a row). MinHash with locality-sensitive
hashing (Broder 1997; `datasketch`) proposes pairs, and the exact Jaccard similarity of the two sets decides: what is
called near is near. Not guaranteed: that every near pair is proposed. At a similarity of `NEAR` one in seven is
missed, at 0.8 one in a hundred, at 0.9 one in a hundred thousand.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from datasketch import MinHash, MinHashLSH

SHINGLE = 5
NEAR = 0.7
BANDS, ROWS = 16, 6
NGRAM = 13
COMMON = 10
COVERED = 0.9

_TOKEN = re.compile(r"\w+|[^\w\s]")
_WORD = re.compile(r"\w+")

Shingles = frozenset[int]


def normalised(text: str) -> str:
    """Lower case, words only, one blank between them: what two copies have in common. Without words, the text."""
    return " ".join(_WORD.findall(text.lower())) or text


def is_long(text: str) -> bool:
    """At least NGRAM tokens: shorter ones are alike by chance."""
    return len(_TOKEN.findall(text)) >= NGRAM


def shingles(text: str) -> Shingles:
    """Digests of all runs of SHINGLE tokens (words and signs); of a shorter text, the whole of it."""
    tokens = _TOKEN.findall(text.lower())
    last = max(1, len(tokens) - SHINGLE + 1)
    return frozenset(zlib.crc32(" ".join(tokens[i : i + SHINGLE]).encode()) for i in range(last))


def jaccard(a: Shingles, b: Shingles) -> float:
    """Shared part of two sets, 0 to 1."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


class Near:
    """Texts that can be asked for those near to another one."""

    def __init__(self) -> None:
        self._lsh = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
        self._known: dict[int, Shingles] = {}

    def add(self, key: int, text: str) -> None:
        self._known[key], signature = _signed(text)
        self._lsh.insert(key, signature, check_duplication=False)

    def find(self, text: str) -> Iterator[tuple[int, float]]:
        """(key, similarity) of every proposed text that is at least NEAR."""
        of, signature = _signed(text)
        for key in sorted(self._lsh.query(signature)):
            similarity = jaccard(of, self._known[key])
            if similarity >= NEAR:
                yield key, similarity


@lru_cache(maxsize=1 << 14)  # prompts are asked for twins of each other, and again for every benchmark
def _signed(text: str) -> tuple[Shingles, MinHash]:
    of = shingles(text)
    made = MinHash(num_perm=BANDS * ROWS, seed=1, hashfunc=int)
    made.update_batch(list(of))
    return of, made


def leaders(texts: Sequence[str]) -> list[int]:
    """For each text the index of the first one that it repeats or is near to; its own where it is new.

    Near to a text that is itself new: likeness is not handed on from neighbour to neighbour.
    """
    known, exact, found = Near(), dict[str, int](), []
    for i, text in enumerate(texts):
        plain = normalised(text)
        if plain not in exact:
            exact[plain] = next((key for key, _ in known.find(text)), i)
            if exact[plain] == i:
                known.add(i, text)
        found.append(exact[plain])
    return found


# -- n-grams ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hit:
    """A text that holds a part of a statement: which one, and the share of the statement's words in it (0 to 1)."""

    key: int
    share: float


def ngrams(words: Sequence[str]) -> list[str]:
    """All runs of NGRAM words, in order; none for a shorter text."""
    return [" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)]


def covered(statements: Sequence[str], texts: Iterable[tuple[int, str]]) -> list[Hit | None]:
    """For each statement the text that covers most of it with shared n-grams; None where none does.

    A word is covered when it is in an n-gram that the text holds too (Llama 2, appendix A.6, counts tokens so). An
    n-gram that more than COMMON texts hold is boilerplate (GPT-3, appendix C, leaves such out), and one that several
    statements share says nothing of any of them: neither covers a word.
    """
    grams = [ngrams(_WORD.findall(statement.lower())) for statement in statements]
    of_statement = Counter(gram for each in grams for gram in set(each))
    own = {gram: s for s, each in enumerate(grams) for gram in each if of_statement[gram] == 1}
    holders: dict[str, set[int]] = {}
    for key, text in texts:
        for gram in ngrams(_WORD.findall(text.lower())):
            if gram in own:
                holders.setdefault(gram, set()).add(key)
    return [_most_covered(each, own, holders) if each else None for each in grams]


def _most_covered(grams: Sequence[str], own: dict[str, int], holders: dict[str, set[int]]) -> Hit | None:
    places = [i for i, gram in enumerate(grams) if gram in own and len(holders.get(gram, ())) <= COMMON]
    total = len(grams) + NGRAM - 1
    by_text: dict[int, list[int]] = {}
    for i in places:
        for key in holders.get(grams[i], ()):
            by_text.setdefault(key, []).append(i)
    hits = [Hit(key, len(_words_at(at)) / total) for key, at in sorted(by_text.items())]
    return max(hits, key=lambda hit: hit.share, default=None)


def _words_at(places: Iterable[int]) -> set[int]:
    return {word for i in places for word in range(i, i + NGRAM)}
