"""When two texts are the same, nearly the same, or hold the same run of words: exact, by MinHash, by n-grams.

Theory of operation. A text is the set of its shingles (`SHINGLE` tokens in a row). MinHash with locality-sensitive
hashing (Broder 1997; `datasketch`) proposes pairs, and the exact Jaccard similarity of the two sets decides: what is
called near is near. Not guaranteed: that every near pair is proposed. At a similarity of `NEAR` one in seven is
missed, at 0.8 one in a hundred, at 0.9 one in a hundred thousand.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from datasketch import MinHash

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
    runs = (
        map(" ".join, zip(*(tokens[i : last + i] for i in range(SHINGLE)), strict=True))
        if last > 1
        else [" ".join(tokens[:SHINGLE])]
    )
    return frozenset(map(zlib.crc32, map(str.encode, runs)))


def jaccard(a: Shingles, b: Shingles) -> float:
    """Shared part of two sets, 0 to 1."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


# -- MinHash ------------------------------------------------------------------------------------------------------

_PERMUTED = MinHash(num_perm=BANDS * ROWS, seed=1)
_A, _B = (each.astype(np.uint32)[:, None] for each in _PERMUTED.permutations)
_MIX = np.random.default_rng(1).integers(1, 2**63, ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


@dataclass(frozen=True)
class Prints:
    """What is known of texts (N of them) without having them."""

    plain: tuple[bytes, ...]
    """digests of the normalised texts: equal for two copies"""
    sizes: np.ndarray[Any, Any]
    """int32 (N): how many shingles"""
    bands: np.ndarray[Any, Any]
    """uint64 (N, BANDS): a hash of each band of the signature; where one is equal, two texts are compared"""

    def __len__(self) -> int:
        return len(self.plain)

    @classmethod
    def joined(cls, parts: Iterable[Prints]) -> Prints:
        parts = list(parts) or [prints([])]
        return cls(
            tuple(each for part in parts for each in part.plain),
            np.concatenate([part.sizes for part in parts]),
            np.concatenate([part.bands for part in parts]),
        )


def prints(texts: Sequence[str]) -> Prints:
    """Of each text. The signature is MinHash's own; `datasketch` gives its permutations."""
    sets = [shingles(text) for text in texts]
    sizes = np.array([len(each) for each in sets], np.int32)
    bands = np.empty((len(texts), BANDS), np.uint64)
    for i, each in enumerate(sets):
        signature = (_A * _mixed(np.fromiter(each, np.uint32, len(each))) + _B).min(axis=1)
        bands[i] = (signature.reshape(BANDS, ROWS) * _MIX).sum(axis=1)
    return Prints(tuple(digest(normalised(text)) for text in texts), sizes, bands)


def _mixed(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """MurmurHash3's last step for 32 bits, with which MinHash begins."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        values = (values ^ (values >> np.uint32(shift))) * np.uint32(factor)
    mixed: np.ndarray[Any, Any] = values ^ (values >> np.uint32(16))
    return mixed


def digest(text: str) -> bytes:
    """128 bits for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


FEW = 64
"""Texts of which every two are compared."""


def leaders(texts: Sequence[str], known: Prints | None = None) -> list[int]:
    """For each text the index of the first one that it repeats or is near to; its own where it is new.

    Near to a text that is itself new: likeness is not handed on from neighbour to neighbour. `known`: the texts'
    prints; without them few texts are read once, and many twice.
    """
    if len(texts) == 1:
        return [0]
    if known is None and len(texts) > FEW:
        starts = range(0, len(texts), FEW)
        known = Prints.joined(prints(list(texts[start : start + FEW])) for start in starts)
    return _few_leaders(list(texts)) if known is None else _many_leaders(texts, known)


def _few_leaders(texts: Sequence[str]) -> list[int]:
    """Compares first, and asks for signatures only of what is alike."""
    sets = [shingles(text) for text in texts]
    plain, found, new = [normalised(text) for text in texts], list[int](), list[int]()
    exact: dict[str, int] = {}
    for i, text in enumerate(texts):
        if plain[i] not in exact:
            alike = (k for k in new if jaccard(sets[i], sets[k]) >= NEAR)
            exact[plain[i]] = next((k for k in alike if _proposed(text, texts[k])), i)
            if exact[plain[i]] == i:
                new.append(i)
        found.append(exact[plain[i]])
    return found


def _proposed(a: str, b: str) -> bool:
    bands = prints([a, b]).bands
    return bool((bands[0] == bands[1]).any())


def _many_leaders(texts: Sequence[str], known: Prints) -> list[int]:
    """Only texts that share a band with another one are looked at."""
    crowded = np.zeros(known.bands.shape, bool)
    for band in range(BANDS):
        values, count = np.unique(known.bands[:, band], return_counts=True)
        crowded[:, band] = np.isin(known.bands[:, band], values[count > 1])
    sizes = known.sizes.tolist()

    @lru_cache(maxsize=1 << 12)
    def shingles_of(i: int) -> Shingles:
        return shingles(texts[i])

    first: dict[bytes, int] = {}
    buckets: dict[tuple[int, int], list[int]] = {}
    found = []
    busy: list[bool] = np.asarray(crowded.any(axis=1)).tolist()
    for i, plain in enumerate(known.plain):
        if plain not in first:
            first[plain] = i
            if busy[i]:
                places = [(band, int(known.bands[i, band])) for band in np.flatnonzero(crowded[i]).tolist()]
                asked = sorted({k for place in places for k in buckets.get(place, ())})
                for k in asked:
                    # Sets of such different sizes cannot be near.
                    few, many = sorted((sizes[i], sizes[k]))
                    if few / many >= NEAR and jaccard(shingles_of(i), shingles_of(k)) >= NEAR:
                        first[plain] = k
                        break
                else:
                    for place in places:
                        buckets.setdefault(place, []).append(i)
        found.append(first[plain])
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


@dataclass(frozen=True)
class Statements:
    """Texts that others may hold parts of."""

    grams: tuple[tuple[str, ...], ...]
    """n-grams of each, in order"""

    @classmethod
    def of(cls, statements: Sequence[str]) -> Statements:
        return cls(tuple(tuple(ngrams(_WORD.findall(statement.lower()))) for statement in statements))

    @property
    def own(self) -> set[str]:
        """The n-grams of one statement alone."""
        count = Counter(gram for each in self.grams for gram in set(each))
        return {gram for gram, n in count.items() if n == 1}

    def most_covered(self, holders: Mapping[str, Set[int]]) -> list[Hit | None]:
        """For each statement the text that covers most of it; None where none does. `holders`: of own n-grams.

        A word is covered when it is in an n-gram that the text holds too (Llama 2, appendix A.6, counts tokens so). An
        n-gram that more than COMMON texts hold is boilerplate (GPT-3, appendix C, leaves such out), and one that
        several statements share says nothing of any of them: neither covers a word.
        """
        own = self.own
        return [_most_covered(each, own, holders) if each else None for each in self.grams]


def held_grams(text: str, wanted: Set[str], ends: Set[tuple[str, str]]) -> set[str]:
    """The wanted n-grams in a text. `ends`: first and last word of each, which is looked at first."""
    words = _WORD.findall(text.lower())
    if ends.isdisjoint(zip(words, words[NGRAM - 1 :], strict=False)):
        return set()
    return set(ngrams(words)) & wanted


def gram_ends(grams: Iterable[str]) -> set[tuple[str, str]]:
    """First and last word of each n-gram."""
    return {(words[0], words[-1]) for words in map(str.split, grams)}


def covered(statements: Sequence[str], texts: Iterable[tuple[int, str]]) -> list[Hit | None]:
    """For each statement the text that covers most of it with shared n-grams; None where none does."""
    asked = Statements.of(statements)
    own = asked.own
    ends = gram_ends(own)
    holders: dict[str, set[int]] = {}
    for key, text in texts:
        for gram in held_grams(text, own, ends):
            holders.setdefault(gram, set()).add(key)
    return asked.most_covered(holders)


def _most_covered(grams: Sequence[str], own: Set[str], holders: Mapping[str, Set[int]]) -> Hit | None:
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
