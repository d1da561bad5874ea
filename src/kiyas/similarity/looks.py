"""One look at every text of the training data: what is needed of it afterwards, without the text.

Texts come in batches, so that processes can share them out; what is looked for is the same for all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kiyas.similarity import near_duplicates
from kiyas.similarity.near_duplicates import Prints, Statements
from kiyas.types import Example


@dataclass(frozen=True)
class Wanted:
    """What is looked for: n-grams of statements in prompts, solutions in completions (blanks aside)."""

    grams: frozenset[str]
    ends: frozenset[tuple[str, str]]
    solutions: Mapping[str, str]
    """by problem id; those shorter than near_duplicates.NGRAM tokens are common and say nothing: left out"""

    @classmethod
    def of(cls, statements: Sequence[Sequence[str]], solutions: Mapping[str, str]) -> Wanted:
        """`statements`: of each benchmark."""
        grams = frozenset(gram for each in statements for gram in Statements.of(each).own)
        long = {id: blanks_aside(text) for id, text in solutions.items() if near_duplicates.is_long(text)}
        return cls(grams, frozenset(near_duplicates.gram_ends(grams)), long)


def blanks_aside(text: str) -> str:
    """One blank for all white space."""
    return " ".join(text.split())


@dataclass(frozen=True)
class PromptBatch:
    prints: Prints
    held: tuple[tuple[int, frozenset[str]], ...]
    """which texts have wanted n-grams"""
    blanks_aside: tuple[bytes, ...]
    """digests"""


def look_at_prompts(wanted: Wanted, texts: Sequence[str]) -> PromptBatch:
    """What is known of each."""
    held = ((i, near_duplicates.held_grams(text, wanted.grams, wanted.ends)) for i, text in enumerate(texts))
    return PromptBatch(
        near_duplicates.prints(texts),
        tuple((i, frozenset(grams)) for i, grams in held if grams),
        tuple(near_duplicates.digest(blanks_aside(text)) for text in texts),
    )


def solutions_in(wanted: Wanted, texts: Sequence[str]) -> list[tuple[str, ...]]:
    """Ids of the problems whose solution is in each text."""
    plain = map(blanks_aside, texts) if wanted.solutions else texts
    return [tuple(id for id, solution in wanted.solutions.items() if solution in text) for text in plain]


@dataclass
class Prompts:
    """What is known of all prompts, by the number of a prompt: its place among them."""

    number: dict[Hashable, int] = field(default_factory=dict)
    """of a prompt's key"""
    example: list[Example] = field(default_factory=list)
    """one with this prompt"""
    prints: Prints = field(default_factory=lambda: near_duplicates.prints([]))
    holders: dict[str, set[int]] = field(default_factory=dict)
    """n-gram → numbers of the prompts that have it"""
    blanks_aside: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Prompts:
        """Numbered, still to be looked at."""
        first: dict[Hashable, Example] = {}
        for each in examples:
            first.setdefault(each.prompt_key, each)
        return cls({key: number for number, key in enumerate(first)}, list(first.values()))

    def take(self, batches: Iterable[PromptBatch]) -> None:
        """What was seen of all of them, in order."""
        parts = []
        for batch in batches:
            at = len(self.blanks_aside)
            parts.append(batch.prints)
            self.blanks_aside += batch.blanks_aside
            for i, grams in batch.held:
                for gram in grams:
                    self.holders.setdefault(gram, set()).add(at + i)
        self.prints = Prints.joined(parts)
