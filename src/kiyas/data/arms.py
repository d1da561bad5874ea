"""Rows of every arm → examples → counted samples: read, split by group, drop what cannot be compared, count all of it.

Rows are many: they are read one at a time, their texts are kept on disk (texts.py), and what is compared are keys.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from kiyas.data.chat import Chat
from kiyas.data.row_files import read_rows
from kiyas.data.row_formats import Reader
from kiyas.data.texts import StoredExample, Texts
from kiyas.study import limits
from kiyas.study.settings import NO_SPLIT, Arm, Dataset, Study
from kiyas.types import Example, KiyasError, TokenizedExample

T = TypeVar("T")
Shown = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]
"""Shows how far a long pass is: it is given its name, how many there are of what, and then how many were done."""
_VALIDATION = {"validation", "valid", "val", "dev", "eval"}


@contextmanager
def unseen(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Shows nothing."""
    yield lambda count: None


class Size(NamedTuple):
    """Of a tokenised example: its tokens, and where those begin that are learned."""

    tokens: int
    start: int

    @property
    def labels(self) -> int:
        return self.tokens - max(1, self.start)


@dataclass
class ArmData:
    """One arm after reading: its examples and what was left out, by reason."""

    examples: list[Example]
    dropped: Counter[str] = field(default_factory=Counter)
    shape: str = ""
    """how prompt and completion were found (see row_formats.py); of a derived arm, its sources"""
    derived: bool = False
    read: list[Example] = field(default_factory=list)
    """every row with text as the source has it, before anything is left out; `split` is the source's own word"""
    lengths: list[tuple[int, int]] = field(default_factory=list)
    """tokens of prompt and completion of each row in `read`"""
    flags: Counter[str] = field(default_factory=Counter)
    """rows that are used all the same: `other_system` than the study's, `chat_tokens` in the text"""
    unused: list[str] = field(default_factory=list)
    """columns with something in them that nothing was read from"""

    def split(self, name: str) -> list[Example]:
        return [example for example in self.examples if example.split == name]


def examples(
    rows: Iterable[dict[str, Any]],
    settings: Dataset,
    arm: str,
    source: str,
    store: Texts | None = None,
    shown: Shown = unseen,
) -> ArmData:
    """Columns → examples with split and group. Raises KiyasError when a column is absent or nothing is left.

    `rows` are gone through twice: for their columns, then one by one. `store` takes their texts.
    """
    store = Texts() if store is None else store
    columns, total = _columns_of(rows, source)
    try:
        reader = Reader(columns, settings, source)
    except KiyasError as error:
        raise KiyasError(f"arm {arm}: {error.args[0]}", error.hint) from None
    split_column = None
    if settings.split_column != NO_SPLIT:
        split_column = _optional(settings.split_column, "split", columns, arm, source, "split_column")
    group_column = _optional(settings.group_by, "group", columns, arm, source, "group_by")
    result = ArmData([], reader.odd, reader.shape, flags=reader.flags)
    seen: Counter[str] = Counter()
    with shown(f"read {arm}", total, "rows") as progress:
        for number, row in enumerate(rows):
            progress(1)
            counted = sum(reader.odd.values())
            prompt, completion = reader.read(row)
            split = str(row.get(split_column, "")).strip().lower() if split_column else "train"
            seen[split] += 1
            split = "validation" if split in _VALIDATION else split
            if not _is_text(prompt) or not _is_text(completion):
                if sum(reader.odd.values()) == counted:  # else it was left out already, for a reason of its shape
                    result.dropped["not_text"] += 1
            elif not prompt.strip() or not completion.strip():
                result.dropped["empty"] += 1
            else:
                identity, group = row.get("id"), row.get(group_column) if group_column else None
                name = _writable(group or prompt)
                limits.TEXT.refuse_above(max(map(len, (prompt, completion, name))), f"{source}, row {number + 1}")
                own = str(row.get(split_column or "split", "")).strip().lower()
                example = StoredExample(
                    store,
                    _writable(number if identity is None else identity),
                    store.number(prompt),
                    store.number(completion),
                    store.number(name),
                    "validation" if own in _VALIDATION else own,
                )
                result.read.append(example)
                if split in ("train", "validation"):
                    result.examples.append(example.moved(split=split))
                else:
                    result.dropped["other_split"] += 1
    try:
        reader.finish()
    except KiyasError as error:
        raise KiyasError(f"arm {arm}: {error.args[0]}", error.hint) from None
    result.unused = reader.unused
    if split_column is None:
        result.examples = _hold_out(result.examples, settings.validation_fraction)
    for split in ("train", "validation"):
        if not result.split(split) and (split == "train" or split_column):
            values = ", ".join(f"{value!r}: {count}" for value, count in seen.most_common(6))
            odd_rows = {why: n for why, n in result.dropped.items() if n and why != "other_split"}
            empty = odd_rows.pop("empty", 0) + odd_rows.pop("not_text", 0)
            left_out = f", {empty} without text" * bool(empty)
            left_out += "".join(f", {n} left out: {why.replace('_', ' ')}" for why, n in odd_rows.items())
            where = f"column {split_column!r} holds {values}" if split_column else f"{total} rows"
            unusable = empty + sum(odd_rows.values()) == total
            raise KiyasError(
                f"arm {arm}: no {split} rows in {source} ({where}{left_out})",
                _remedy(odd_rows, empty)
                if unusable
                else "training needs rows marked train; validation needs rows marked validation, valid, val or dev",
            )
    return result


def _columns_of(rows: Iterable[dict[str, Any]], source: str) -> tuple[list[str], int]:
    """All columns in the order in which they occur, and how many rows there are."""
    columns, last, total = dict[str, None](), None, 0
    for row in rows:
        total += 1
        if (keys := row.keys()) != last:
            columns.update(dict.fromkeys(keys))
            limits.COLUMNS.refuse_above(len(columns), source)
            last = keys
    return list(columns), total


def _remedy(odd: dict[str, int], empty: int) -> str:
    """What to do where every row is unusable: about the most frequent reason."""
    why = max(odd, key=odd.__getitem__, default="")
    if not why or odd[why] <= empty:
        return "prompt and completion must be text; dataset.prompt_column and completion_column name their columns"
    if why.startswith("unknown role"):
        return "name the roles system, user and assistant"
    return "a row is one question in plain text and its answer: take the rest out, or split it into rows"


def _is_text(value: Any) -> bool:
    """A string that can be written: half of a surrogate pair cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _writable(value: Any) -> str:
    """As text; half of a surrogate pair becomes its escape."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _optional(given: str | None, usual: str, columns: list[str], arm: str, source: str, key: str) -> str | None:
    if given is not None and given not in columns:
        raise KiyasError(
            f"arm {arm}: {source} has no column {given!r} (dataset.{key}); it has {', '.join(map(str, columns))}"
        )
    return given if given is not None else usual if usual in columns else None


def _hold_out(rows: list[Example], fraction: float) -> list[Example]:
    """Holds whole groups out, chosen by the group's name alone, so that arms hold the same problems out."""
    groups = {row.group_key: row for row in rows}
    count = round(len(groups) * fraction)
    if fraction > 0 and len(groups) > 1:
        count = max(1, count)
    held = set(_by_chance(groups)[:count]) if count else set()
    return [row.moved(split="validation" if row.group_key in held else "train") for row in rows]


def _by_chance(groups: Mapping[Hashable, Example]) -> list[Hashable]:
    """Keys of groups in an order of chance that their names decide."""
    place = {key: random.Random(f"hold out {row.group}").random() for key, row in groups.items()}
    if len(set(place.values())) < len(place):  # by their names, where chance puts two at one place
        return sorted(groups, key=lambda key: (place[key], groups[key].group))
    return sorted(groups, key=place.__getitem__)


def read_arms(study: Study, shown: Shown = unseen) -> dict[str, ArmData]:
    """All arms with data of their own; groups held out by one are taken out of every arm's training set."""
    store = Texts()  # one for all: equal texts have equal numbers, whose they are
    arms = {
        name: examples(
            read_rows(arm.dataset_name, arm.revision, arm.dataset_config),
            study.dataset,
            name,
            arm.dataset_name,
            store,
            shown,
        )
        for name, arm in study.arms.items()
        if arm.dataset_name is not None
    }
    held = {example.group_key for data in arms.values() for example in data.split("validation")}
    for data in arms.values():
        _drop(data, "in_a_validation_set", [e.split == "train" and e.group_key in held for e in data.examples])
    return arms


def _drop(data: ArmData, reason: str, bad: Sequence[bool]) -> list[bool]:
    """Takes the bad ones out of the examples. Returns which were kept."""
    kept = [not each for each in bad]
    data.dropped[reason] += len(kept) - sum(kept)
    data.examples = list(itertools.compress(data.examples, kept))
    return kept


def tokenise(example: Example, chat: Chat, study: Study, arm: str) -> TokenizedExample:
    """Chat text up to the assistant's turn, then the completion and the end of turn; learned from there on."""
    return next(tokenised([example], chat, study, arm))


def tokenised(examples: Iterable[Example], chat: Chat, study: Study, arm: str) -> Iterator[TokenizedExample]:
    """The same for many, some at a time."""
    learned = study.recipe(arm).completion_only_loss
    for some in batches((example.prompt, example.completion) for example in examples):
        prompts = chat.all_prompt_ids([prompt for prompt, _ in some], study.dataset.system)
        answers = chat.all_completion_ids([completion for _, completion in some])
        for prompt, completion in zip(prompts, answers, strict=True):
            yield TokenizedExample((*prompt, *completion), len(prompt) if learned else 0)


BATCH = 4096
BATCH_CHARACTERS = 2 << 20
"""Texts that are taken at once: so many, or one."""


def batches(things: Iterable[tuple[T, str]]) -> Iterator[list[tuple[T, str]]]:
    """Of (thing, text): so few that their texts fit into memory, however long they are."""
    some: list[tuple[T, str]] = []
    size = 0
    for thing in things:
        if some and (len(some) == BATCH or size > BATCH_CHARACTERS):
            yield some
            some, size = [], 0
        some.append(thing)
        size += len(thing[1])
    if some:
        yield some


Counts = dict[Hashable, int]


def _tokens(arms: Iterable[ArmData], chat: Chat, system: str | None, shown: Shown) -> tuple[Counts, Counts]:
    """Tokens of every prompt and of every completion, by key. Each text is counted once."""
    prompts, answers = dict[Hashable, Example](), dict[Hashable, Example]()
    for data in arms:
        for example in itertools.chain(data.read, data.examples):
            prompts.setdefault(example.prompt_key, example)
            answers.setdefault(example.completion_key, example)
    of_prompt, of_answer = Counts(), Counts()
    with shown("tokenise", len(prompts) + len(answers), "texts") as progress:
        for some in batches((key, example.prompt) for key, example in prompts.items()):
            ids = chat.all_prompt_ids([text for _, text in some], system)
            of_prompt.update(zip((key for key, _ in some), map(len, ids), strict=True))
            progress(len(some))
        for some in batches((key, example.completion) for key, example in answers.items()):
            ids = chat.all_completion_ids([text for _, text in some])
            of_answer.update(zip((key for key, _ in some), map(len, ids), strict=True))
            progress(len(some))
    return of_prompt, of_answer


def drop_too_long(arms: dict[str, ArmData], chat: Chat, study: Study, shown: Shown = unseen) -> dict[str, list[Size]]:
    """Drops samples above max_length; a problem that arms share, and that is too long once, leaves all of them.

    Returns the sizes of the training samples that are left, by arm. Fills in `ArmData.lengths`.
    """
    limits = {name: study.recipe(name).max_length for name in arms}
    prompts, answers = _tokens(arms.values(), chat, study.dataset.system, shown)
    sizes: dict[str, list[Size]] = {}
    same: dict[Size, Size] = {}  # few sizes differ
    for name, data in arms.items():
        learned = study.recipe(name).completion_only_loss
        sizes[name] = []
        for e in data.examples:
            prompt = prompts[e.prompt_key]
            size = Size(prompt + answers[e.completion_key], prompt if learned else 0)
            sizes[name].append(same.setdefault(size, size))
        pairs: dict[tuple[int, int], tuple[int, int]] = {}
        lengths = ((prompts[e.prompt_key], answers[e.completion_key]) for e in data.read)
        data.lengths = [pairs.setdefault(pair, pair) for pair in lengths]
    here = Counter(group for data in arms.values() for group in {e.group_key for e in data.examples})
    long = {
        e.group_key
        for name, data in arms.items()
        for e, size in zip(data.examples, sizes[name], strict=True)
        if here[e.group_key] > 1 and size.tokens > limits[name]
    }
    for name, data in arms.items():
        validated, limit = bool(data.split("validation")), limits[name]
        for reason, bad in (
            ("too_long", lambda e, size, limit=limit: size.tokens > limit),
            ("too_long_elsewhere", lambda e, size: e.group_key in long),
        ):
            kept = _drop(data, reason, [bad(e, size) for e, size in zip(data.examples, sizes[name], strict=True)])
            sizes[name] = list(itertools.compress(sizes[name], kept))
        for split in ("train", "validation") if validated else ("train",):
            if not data.split(split):
                raise KiyasError(
                    f"arm {name}: no {split} rows are left: {data.dropped['too_long']} are longer than "
                    f"training.max_length = {limit} tokens, {data.dropped['too_long_elsewhere']} belong to problems "
                    f"that have such a row in this arm or another, {data.dropped['in_a_validation_set']} to problems "
                    "that a validation set holds out"
                )
    return {
        name: list(itertools.compress(sizes[name], (e.split == "train" for e in data.examples)))
        for name, data in arms.items()
    }


def derive(arms: dict[str, ArmData], samples: dict[str, list[Size]], chat: Chat, study: Study) -> None:
    """Adds the derived arms, drawn from what is left of the others. Each draw is a function of names and its number.

    All draws are in one arm, identified by `Example.draw`; validation is that of the sources, whole.
    """
    for name, arm in study.arms.items():
        if not arm.sources:
            continue
        sample_of = {
            id(e): s
            for source in arm.sources
            for e, s in zip(arms[source].split("train"), samples[source], strict=True)
        }
        drawn: list[Example] = []
        chosen: list[Size] = []
        for draw in range(arm.draws):
            rows = _draw(arms, name, arm, draw)
            if not rows:
                raise KiyasError(f"arm {name}: nothing is left of {', '.join(arm.sources)}")
            drawn += [row.moved(draw=draw) for row in rows]
            chosen += [sample_of[id(row)] for row in rows]
        validation = [row for source in arm.sources for row in arms[source].split("validation")]
        arms[name] = ArmData([*drawn, *validation], shape=f"derived from {' and '.join(arm.sources)}", derived=True)
        samples[name] = chosen
        if arm.training is not None:  # its samples may be cut out of the same rows otherwise
            samples |= drop_too_long({name: arms[name]}, chat, study)


def _draw(arms: dict[str, ArmData], name: str, arm: Arm, draw: int) -> list[Example]:
    """One random draw: problems first, then solutions of each, then a share; in the sources' order."""

    def dice(what: str) -> random.Random:
        return random.Random(f"{name} {draw} {what}")

    if arm.mix is not None:
        shares = {source: share / sum(arm.mix.values()) for source, share in arm.mix.items()}
        total = min(len(arms[source].split("train")) / share for source, share in shares.items())
        rows = [
            row
            for source, share in shares.items()
            for row in _some(arms[source].split("train"), round(total * share), dice(source))
        ]
    else:
        rows = arms[arm.sources[0]].split("train")
    groups = list(dict.fromkeys(row.group_key for row in rows))
    if arm.problems is not None:
        if arm.problems > len(groups):
            raise KiyasError(f"arm {name}: the study asks for {arm.problems} problems, but there are {len(groups)}")
        groups = _some(groups, arm.problems, dice("problems"))
        kept = set(groups)
        rows = [row for row in rows if row.group_key in kept]
    if arm.solutions is not None:
        of_group: dict[Hashable, list[Example]] = {}
        for row in rows:
            of_group.setdefault(row.group_key, []).append(row)
        few = {id(row) for some in of_group.values() for row in _some(some, arm.solutions, dice(some[0].group))}
        rows = [row for row in rows if id(row) in few]
    if arm.fraction is not None:
        rows = _some(rows, max(1, round(len(rows) * arm.fraction)), dice("fraction"))
    return rows


def _some(things: list[T], count: int, dice: random.Random) -> list[T]:
    """A random part, in the order they had."""
    return [things[i] for i in sorted(dice.sample(range(len(things)), min(count, len(things))))]


def arm_counts(data: ArmData, samples: Iterable[Size]) -> dict[str, Any]:
    """What the manifest says of an arm. Of several draws, the first; token counts are of the training samples."""
    first = [example.draw == 0 for example in data.split("train")]
    samples = list(itertools.compress(samples, first))
    train = list(itertools.compress(data.split("train"), first))
    lengths = [sample.tokens for sample in samples]
    labels = [sample.labels for sample in samples]
    groups = len({example.group_key for example in train})
    return {
        "train": len(train),
        "validation": len(data.split("validation")),
        "groups": groups,
        "solutions_per_group": round(len(train) / groups, 3),
        "completion_tokens": sum(labels),
        "mean_tokens": round(sum(lengths) / len(lengths), 1),
        "max_tokens": max(lengths),
        "draws": 1 + max(example.draw for example in data.examples),
        "from": data.shape,
        "derived": data.derived,
        **{f"dropped_{reason}": count for reason, count in sorted(data.dropped.items())},
        **{flag: count for flag, count in sorted(data.flags.items()) if count},
        **({"unused_columns": data.unused} if data.unused else {}),
    }
