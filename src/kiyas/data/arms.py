"""Rows of every arm → examples → token samples: read, split by group, drop what cannot be compared, count all of it."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from kiyas.data.chat import Chat
from kiyas.data.row_files import read_rows
from kiyas.data.row_formats import texts
from kiyas.study.settings import NO_SPLIT, Arm, Dataset, Study
from kiyas.types import Example, KiyasError, TokenizedExample

T = TypeVar("T")
_VALIDATION = {"validation", "valid", "val", "dev", "eval"}


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


def examples(rows: list[dict[str, Any]], settings: Dataset, arm: str, source: str) -> ArmData:
    """Columns → examples with split and group. Raises KiyasError when a column is absent or nothing is left."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    try:
        found = texts(rows, settings, source)
    except KiyasError as error:
        raise KiyasError(f"arm {arm}: {error.args[0]}", error.hint) from None
    split_column = None
    if settings.split_column != NO_SPLIT:
        split_column = _optional(settings.split_column, "split", columns, arm, source, "split_column")
    group_column = _optional(settings.group_by, "group", columns, arm, source, "group_by")
    # A row that was left out already, for a reason of its shape, has neither text here.
    counted = sum(found.odd.values())
    result = ArmData([], found.odd, found.shape, flags=found.flags, unused=found.unused)
    seen: Counter[str] = Counter()
    for number, (row, (prompt, completion)) in enumerate(zip(rows, found.pairs, strict=True)):
        split = str(row.get(split_column, "")).strip().lower() if split_column else "train"
        seen[split] += 1
        split = "validation" if split in _VALIDATION else split
        if not _is_text(prompt) or not _is_text(completion):
            if prompt is None and completion is None and counted:
                counted -= 1
            else:
                result.dropped["not_text"] += 1
        elif not prompt.strip() or not completion.strip():
            result.dropped["empty"] += 1
        else:
            identity = row.get("id")
            example = Example(
                _writable(number if identity is None else identity),
                prompt,
                completion,
                _writable((row.get(group_column) if group_column else None) or prompt),
                split,
            )
            own = str(row.get(split_column or "split", "")).strip().lower()
            result.read.append(replace(example, split="validation" if own in _VALIDATION else own))
            if split in ("train", "validation"):
                result.examples.append(example)
            else:
                result.dropped["other_split"] += 1
    if split_column is None:
        result.examples = _hold_out(result.examples, settings.validation_fraction)
    for split in ("train", "validation"):
        if not result.split(split) and (split == "train" or split_column):
            values = ", ".join(f"{value!r}: {count}" for value, count in seen.most_common(6))
            odd_rows = {why: n for why, n in result.dropped.items() if n and why != "other_split"}
            empty = odd_rows.pop("empty", 0) + odd_rows.pop("not_text", 0)
            left_out = f", {empty} without text" * bool(empty)
            left_out += "".join(f", {n} left out: {why.replace('_', ' ')}" for why, n in odd_rows.items())
            where = f"column {split_column!r} holds {values}" if split_column else f"{len(rows)} rows"
            unusable = empty + sum(odd_rows.values()) == len(rows)
            raise KiyasError(
                f"arm {arm}: no {split} rows in {source} ({where}{left_out})",
                _remedy(odd_rows, empty)
                if unusable
                else "training needs rows marked train; validation needs rows marked validation, valid, val or dev",
            )
    return result


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
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


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
    groups = sorted({row.group for row in rows})
    count = round(len(groups) * fraction)
    if fraction > 0 and len(groups) > 1:
        count = max(1, count)
    held = set(sorted(groups, key=lambda group: random.Random(f"hold out {group}").random())[:count])
    return [replace(row, split="validation" if row.group in held else "train") for row in rows]


def read_arms(study: Study) -> dict[str, ArmData]:
    """All arms with data of their own; groups held out by one are taken out of every arm's training set."""
    arms = {
        name: examples(
            read_rows(arm.dataset_name, arm.revision, arm.dataset_config), study.dataset, name, arm.dataset_name
        )
        for name, arm in study.arms.items()
        if arm.dataset_name is not None
    }
    held = {example.group for data in arms.values() for example in data.split("validation")}
    for data in arms.values():
        _drop(data, "in_a_validation_set", lambda example: example.split == "train" and example.group in held)
    return arms


def _drop(data: ArmData, reason: str, bad: Callable[[Example], bool]) -> None:
    kept = [example for example in data.examples if not bad(example)]
    data.dropped[reason] += len(data.examples) - len(kept)
    data.examples = kept


def tokenise(example: Example, chat: Chat, study: Study, arm: str) -> TokenizedExample:
    """Chat text up to the assistant's turn, then the completion and the end of turn; learned from there on."""
    prompt = chat.prompt_ids(example.prompt, study.dataset.system)
    completion = chat.completion_ids(example.completion)
    return _sample(prompt, completion, study, arm)


def _sample(prompt: list[int], completion: list[int], study: Study, arm: str) -> TokenizedExample:
    return TokenizedExample((*prompt, *completion), len(prompt) if study.recipe(arm).completion_only_loss else 0)


def drop_too_long(arms: dict[str, ArmData], chat: Chat, study: Study) -> dict[str, list[TokenizedExample]]:
    """Drops samples above max_length; a problem that arms share, and that is too long once, leaves all of them.

    Returns the training samples that are left, by arm. Fills in `ArmData.lengths`.
    """
    limits = {name: study.recipe(name).max_length for name in arms}
    # Once for each text: the solutions of one problem share its prompt, and arms share problems.
    everything = [e for data in arms.values() for e in (*data.read, *data.examples)]
    prompts = {text: chat.prompt_ids(text, study.dataset.system) for text in {e.prompt for e in everything}}
    answers = {text: chat.completion_ids(text) for text in {e.completion for e in everything}}
    samples = {}
    for name, data in arms.items():
        samples[name] = {id(e): _sample(prompts[e.prompt], answers[e.completion], study, name) for e in data.examples}
        data.lengths = [(len(prompts[e.prompt]), len(answers[e.completion])) for e in data.read]
    here = Counter(group for data in arms.values() for group in {e.group for e in data.examples})
    long = {
        e.group
        for name, data in arms.items()
        for e in data.examples
        if here[e.group] > 1 and len(samples[name][id(e)].ids) > limits[name]
    }
    for name, data in arms.items():
        mine, validated, limit = samples[name], bool(data.split("validation")), limits[name]
        _drop(data, "too_long", lambda e, mine=mine, limit=limit: len(mine[id(e)].ids) > limit)  # type: ignore[misc]
        _drop(data, "too_long_elsewhere", lambda e: e.group in long)
        for split in ("train", "validation") if validated else ("train",):
            if not data.split(split):
                raise KiyasError(
                    f"arm {name}: no {split} rows are left: {data.dropped['too_long']} are longer than "
                    f"training.max_length = {limit} tokens, {data.dropped['too_long_elsewhere']} belong to problems "
                    f"that have such a row in this arm or another, {data.dropped['in_a_validation_set']} to problems "
                    "that a validation set holds out"
                )
    return {name: [samples[name][id(e)] for e in data.split("train")] for name, data in arms.items()}


def derive(arms: dict[str, ArmData], samples: dict[str, list[TokenizedExample]], chat: Chat, study: Study) -> None:
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
        chosen: list[TokenizedExample] = []
        for draw in range(arm.draws):
            rows = _draw(arms, name, arm, draw)
            if not rows:
                raise KiyasError(f"arm {name}: nothing is left of {', '.join(arm.sources)}")
            drawn += [replace(row, draw=draw) for row in rows]
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
    groups = list(dict.fromkeys(row.group for row in rows))
    if arm.problems is not None:
        if arm.problems > len(groups):
            raise KiyasError(f"arm {name}: the study asks for {arm.problems} problems, but there are {len(groups)}")
        groups = _some(groups, arm.problems, dice("problems"))
        kept = set(groups)
        rows = [row for row in rows if row.group in kept]
    if arm.solutions is not None:
        of_group: dict[str, list[Example]] = {}
        for row in rows:
            of_group.setdefault(row.group, []).append(row)
        few = {id(row) for group, some in of_group.items() for row in _some(some, arm.solutions, dice(group))}
        rows = [row for row in rows if id(row) in few]
    if arm.fraction is not None:
        rows = _some(rows, max(1, round(len(rows) * arm.fraction)), dice("fraction"))
    return rows


def _some(things: list[T], count: int, dice: random.Random) -> list[T]:
    """A random part, in the order they had."""
    return [things[i] for i in sorted(dice.sample(range(len(things)), min(count, len(things))))]


def arm_counts(data: ArmData, samples: Iterable[TokenizedExample]) -> dict[str, Any]:
    """What the manifest says of an arm. Of several draws, the first; token counts are of the training samples."""
    first = [example.draw == 0 for example in data.split("train")]
    samples = list(itertools.compress(samples, first))
    train = list(itertools.compress(data.split("train"), first))
    lengths = [len(sample.ids) for sample in samples]
    labels = [sample.labels for sample in samples]
    groups = len({example.group for example in train})
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
