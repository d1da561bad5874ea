"""One look at every text of a study's training data, shared out to processes where they are many."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from kiyas.data.arms import batches
from kiyas.similarity import near_duplicates
from kiyas.similarity.looks import Prompts, Wanted, look_at_prompts
from kiyas.types import Example
from kiyas.work.progress import LONG, long_bar
from kiyas.work.workers import spread

T = TypeVar("T")


def prompts_seen(wanted: Wanted, examples: Iterable[Example]) -> Prompts:
    """Every prompt of the examples, looked at once."""
    prompts = Prompts.of(examples)
    prompts.take(_shared_out("prompts", look_at_prompts, wanted, prompts.example, lambda row: row.prompt))
    return prompts


def completions_seen(
    look: Callable[[Wanted, Sequence[str]], Sequence[T]], wanted: Wanted, examples: Iterable[Example]
) -> dict[Hashable, T]:
    """By its key, what `look` says of every completion."""
    first: dict[Hashable, Example] = {}
    for each in examples:
        first.setdefault(each.completion_key, each)
    found = _shared_out("answers", look, wanted, list(first.values()), lambda row: row.completion)
    return dict(zip(first, (each for batch in found for each in batch), strict=True))


def _shared_out(
    label: str,
    look: Callable[[Wanted, list[str]], T],
    wanted: Wanted,
    examples: list[Example],
    text_of: Callable[[Example], str],
) -> Iterator[T]:
    sizes: list[int] = []

    def texts() -> Iterator[list[str]]:
        for some in batches((None, text_of(row)) for row in examples):
            sizes.append(len(some))
            yield [text for _, text in some]

    with long_bar(label, len(examples), "texts") as progress:
        for number, each in enumerate(spread(look, wanted, texts(), len(examples) >= LONG)):
            yield each
            progress(sizes[number])


@dataclass(frozen=True)
class Clusters:
    """Which prompts are the same or near to each other."""

    number: Mapping[Hashable, int]
    """by a prompt's key, its place"""
    leader: Sequence[int]
    """by place, one number for those that are the same or near"""
    plain: Sequence[bytes]
    """by place, one digest for those that are the same in their words"""

    def near(self, row: Example) -> int:
        return self.leader[self.number[row.prompt_key]]

    def same(self, row: Example) -> bytes:
        return self.plain[self.number[row.prompt_key]]


class LazyTexts(Sequence[str]):
    """The prompts or completions of rows, read when they are asked for."""

    def __init__(self, rows: Sequence[Example], name: Literal["prompt", "completion"]) -> None:
        self._rows, self._name = rows, name

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [getattr(row, self._name) for row in self._rows[at]]
        return getattr(self._rows[at], self._name)


def clusters(prompts: Prompts) -> Clusters:
    """Of prompts that were looked at."""
    leader = near_duplicates.leaders(LazyTexts(prompts.example, "prompt"), prompts.prints)
    return Clusters(prompts.number, leader, prompts.prints.plain)
