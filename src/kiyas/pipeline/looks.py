"""One look at every text of a study's training data, shared out to processes where they are many."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from kiyas.data.arms import batches
from kiyas.similarity.looks import Prompts, Wanted, look_at_prompts, solutions_in
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


def solved(wanted: Wanted, examples: Iterable[Example]) -> Mapping[Hashable, Sequence[str]]:
    """The problems whose solution is in a completion, by the completion's key."""
    return completions_seen(solutions_in, wanted, examples if wanted.solutions else ())


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
