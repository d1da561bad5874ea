"""What the rows of the arms hold: counted, whatever their cards say; once, for `kiyas check` and for a run alike."""

from __future__ import annotations

import ast
import itertools
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kiyas.analyse.findings import DataFacts
from kiyas.data.arms import BATCH_CHARACTERS, ArmData, batches, tokenise
from kiyas.data.chat import Chat
from kiyas.judge import extract
from kiyas.judge.fences import Parsed
from kiyas.judge.syntax import syntax_tree
from kiyas.pipeline.looks import Clusters, LazyTexts, clusters, completions_seen, prompts_seen
from kiyas.pipeline.prepare import Prepared, contaminated_by, wanted
from kiyas.similarity import near_duplicates
from kiyas.similarity.contamination import Contamination
from kiyas.similarity.fingerprint import fingerprint
from kiyas.similarity.looks import Wanted, blanks_aside, solutions_in
from kiyas.similarity.near_duplicates import Prints
from kiyas.similarity.shared_rows import SharedRows, shared_rows
from kiyas.study.settings import Study
from kiyas.types import Example
from kiyas.work.progress import LONG, long_bar
from kiyas.work.workers import spread


@dataclass(frozen=True)
class Rows:
    """Rows by problem (`dataset.group_by`)."""

    rows: int
    problems: int
    solutions_per_problem: float
    """mean number of rows of a problem"""
    approaches_per_problem: float
    """mean number of different programs (fingerprints) of a problem; of problems with any program"""


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompt and completion together, of every row read."""

    median: int
    ninety_five: int
    """95 % of the rows have at most so many"""
    longest: int
    completion_mean: float
    completion_longest: int
    too_long: int
    """rows above training.max_length: other trainers cut them, Kıyas leaves them out"""
    beyond_max_new_tokens: int
    """rows whose completion is longer than generation.max_new_tokens"""


@dataclass(frozen=True)
class ArmFacts:
    """One arm. What names rows names them by their id."""

    name: str
    source: str
    derived: bool
    read: Rows | None
    """as the source has them, all splits; none for a derived arm"""
    trained: Rows
    """what is trained on, of the first draw"""
    completion_tokens: int
    """of what is trained on, once through"""
    validation: int
    splits: dict[str, int]
    """rows by the source's own split column; empty without one"""
    left_out: dict[str, int]
    """rows that were read and are not used, by reason"""
    shape: str
    """how prompt and completion were found in a row"""
    flags: dict[str, int]
    """rows read that are used, and deserve a word, by what it is"""
    unused: tuple[str, ...]
    """columns with something in them that nothing was read from"""
    lengths: Lengths | None
    thinking: int
    """rows read whose completion has <think>"""
    fenced: int
    """rows read whose program is in a fence"""
    unparsed: tuple[str, ...]
    """rows read whose fenced program is not Python"""
    no_program: tuple[str, ...]
    """rows read in whose completion the judge finds no program"""
    columns_swapped: bool
    """nearly all answers are without a program, and nearly all of their prompts are one"""
    duplicates: tuple[str, ...]
    """rows read that repeat an earlier one, prompt and completion"""
    near_duplicates: tuple[str, ...]
    """rows read whose prompt and completion are both near to an earlier row's, and not repeated exactly"""


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What the judge would run of one completion, and what is needed of its text."""

    method: str
    """how the program was found (kiyas.judge.extract)"""
    approach: str | None
    """its fingerprint; None where there is no program that parses"""
    thinks: bool
    """it has <think>"""
    plain: bytes
    """a digest of it, blanks aside"""
    solved: tuple[str, ...]
    """benchmark problems whose solution is in it"""

    @property
    def fenced(self) -> bool:
        return self.method.startswith(("fence", "unclosed"))


Answers = Mapping[Hashable, AnswerFacts]
"""By a completion's key."""


def answer(completion: str, solved: tuple[str, ...] = (), alone: bool = False) -> AnswerFacts:
    """The program in a completion, as the judge finds it.

    `alone`: no other program is compared with it, so that any fingerprint does.
    """
    parsed: Parsed = {}
    found = extract(completion, parsed=parsed)
    approach = None
    tree = parsed.get(found.program) or syntax_tree(found.program)
    if found.program.strip() and isinstance(tree, ast.Module):
        approach = "" if alone else fingerprint(found.program, tree)
    plain = near_duplicates.digest(blanks_aside(completion))
    return AnswerFacts(found.method, approach, "<think>" in completion.lower(), plain, solved)


def _answers(wanted: Wanted, texts: Sequence[str]) -> list[AnswerFacts]:
    return [answer(text, solved) for text, solved in zip(texts, solutions_in(wanted, texts), strict=True)]


def _lone_answers(wanted: Wanted, texts: Sequence[str]) -> list[AnswerFacts]:
    return [answer(text, solved, alone=True) for text, solved in zip(texts, solutions_in(wanted, texts), strict=True)]


def answers_seen(wanted: Wanted, rows: Sequence[Example]) -> dict[Hashable, AnswerFacts]:
    """Every completion of the rows, looked at once."""
    solutions = Counter(group for group, _ in {(row.group_key, row.completion_key) for row in rows})
    compared = [row for row in rows if solutions[row.group_key] > 1]
    found = completions_seen(_answers, wanted, compared)
    return found | completions_seen(_lone_answers, wanted, (row for row in rows if row.completion_key not in found))


def by_problem(rows: Sequence[Example], answers: Answers) -> Rows:
    """Counts rows, problems, solutions and approaches."""
    groups = Counter(row.group_key for row in rows)
    approaches: dict[Hashable, set[str]] = {}
    for row in rows:
        found = answers[row.completion_key].approach
        if found is not None:
            approaches.setdefault(row.group_key, set()).add(found)
    different = [len(each) for each in approaches.values()]
    return Rows(
        len(rows), len(groups), len(rows) / max(1, len(groups)), statistics.fmean(different) if different else 0.0
    )


def lengths(arm: ArmData, max_length: int, max_new_tokens: int) -> Lengths | None:
    """Of the rows read; None for a derived arm."""
    if not arm.lengths:
        return None
    total = sorted(prompt + completion for prompt, completion in arm.lengths)
    completions = [completion for _, completion in arm.lengths]
    return Lengths(
        total[len(total) // 2],
        total[min(len(total) - 1, round(0.95 * len(total)))],
        total[-1],
        statistics.fmean(completions),
        max(completions),
        sum(length > max_length for length in total),
        sum(length > max_new_tokens for length in completions),
    )


def repeated(rows: Sequence[Example], cluster: Clusters, answers: Answers) -> tuple[list[str], list[str]]:
    """Ids of rows that repeat an earlier one exactly, and of those only near to one.

    `cluster` says which prompts are the same or near to each other; only completions of one cluster are compared.
    """
    exact, near = list[str](), list[str]()
    seen = set[tuple[bytes, bytes]]()
    groups: dict[int, list[Example]] = {}
    for row in rows:
        key = (cluster.same(row), answers[row.completion_key].plain)
        if key in seen:
            exact.append(row.id)
        else:
            seen.add(key)
            groups.setdefault(cluster.near(row), []).append(row)
    several = [group for group in groups.values() if len(group) > 1]
    for group, first in zip(several, _leaders(several), strict=True):
        near += [row.id for i, row in enumerate(group) if first[i] != i]
    return exact, near


def _leaders(groups: Sequence[Sequence[Example]]) -> Iterator[list[int]]:
    """near_duplicates.leaders of each group's completions: of small groups, many at a time; a large one is shared out
    by itself."""
    total = sum(map(len, groups))
    with long_bar("compare", total, "answers") as progress:
        for large, some in itertools.groupby(groups, lambda group: len(group) > near_duplicates.FEW):
            if large:
                for group in some:
                    texts = LazyTexts(group, "completion")
                    parts = ([text for _, text in each] for each in batches(enumerate(texts)))
                    seen = spread(_prints, None, parts, len(group) >= LONG)
                    yield near_duplicates.leaders(texts, Prints.joined(seen))
                    progress(len(group))
            else:
                for first in spread(_leaders_of, None, _batches_of(some), total >= LONG):
                    yield from first
                    progress(sum(map(len, first)))


def _prints(_: None, texts: list[str]) -> Prints:
    return near_duplicates.prints(texts)


def _leaders_of(_: None, groups: list[list[str]]) -> list[list[int]]:
    return [near_duplicates.leaders(texts) for texts in groups]


def _batches_of(groups: Iterable[Sequence[Example]]) -> Iterator[list[list[str]]]:
    some: list[list[str]] = []
    size = 0
    for group in groups:
        some.append([row.completion for row in group])
        size += sum(map(len, some[-1]))
        if size > BATCH_CHARACTERS:
            yield some
            some, size = [], 0
    yield some


def facts(
    name: str,
    source: str,
    arm: ArmData,
    completion_tokens: int,
    answers: Answers,
    cluster: Clusters,
    limits: tuple[int, int],
) -> ArmFacts:
    """Everything that is counted of one arm. `limits`: training.max_length and generation.max_new_tokens."""
    exact, near = repeated(arm.read, cluster, answers)
    found = [(row, answers[row.completion_key]) for row in arm.read]
    return ArmFacts(
        name=name,
        source=source,
        derived=arm.derived,
        read=None if arm.derived else by_problem(arm.read, answers),
        trained=by_problem([row for row in arm.split("train") if row.draw == 0], answers),
        completion_tokens=completion_tokens,
        validation=len(arm.split("validation")),
        splits={split: n for split, n in Counter(row.split for row in arm.read).items() if split},
        left_out={reason: n for reason, n in sorted(arm.dropped.items()) if n},
        shape=arm.shape,
        flags={flag: n for flag, n in sorted(arm.flags.items()) if n},
        unused=tuple(map(str, arm.unused)),
        lengths=lengths(arm, *limits),
        thinking=sum(each.thinks for _, each in found),
        fenced=sum(each.fenced for _, each in found),
        unparsed=tuple(row.id for row, each in found if each.method == "fence-unparsed"),
        no_program=tuple(row.id for row, each in found if each.method == "none"),
        columns_swapped=_columns_swapped([row for row, each in found if each.method == "none"], len(found)),
        duplicates=tuple(exact),
        near_duplicates=tuple(near),
    )


NEARLY_ALL = 0.9
"""Share of the answers without a program, and of their prompts with one, at which the columns look swapped."""
MOST_PROMPTS = 200
"""So many prompts are looked at: a swap concerns all rows alike."""


def _columns_swapped(no_program: Sequence[Example], rows: int) -> bool:
    """`no_program`: the rows read in whose completion the judge finds none; `rows`: how many were read."""
    if not rows or len(no_program) < NEARLY_ALL * rows:
        return False
    looked_at = no_program[:MOST_PROMPTS]
    programs = sum(answer(row.prompt, alone=True).approach is not None for row in looked_at)
    return programs >= NEARLY_ALL * len(looked_at)


@dataclass(frozen=True)
class Measured:
    """The training data of a study's arms, and what of the benchmarks is in them."""

    arms: dict[str, ArmFacts]
    cluster: Clusters
    shared: list[SharedRows]
    contamination: list[Contamination]


def measure(study: Study, prepared: Prepared) -> Measured:
    """Looks at every text of a study's data once."""
    arms = prepared.arms
    rows = [e for arm in arms.values() for e in (*arm.read, *arm.examples)]
    looked_for = wanted(study, prepared)
    prompts = prompts_seen(looked_for, rows)
    cluster = clusters(prompts)
    answers = answers_seen(looked_for, rows)
    return Measured(
        {
            name: facts(
                name,
                study.arms[name].dataset_name or arm.shape,
                arm,
                prepared.counts[name]["completion_tokens"],
                answers,
                cluster,
                (study.recipe(name).max_length, study.generation.max_new_tokens),
            )
            for name, arm in arms.items()
        },
        cluster,
        shared_rows(
            {name: arm.examples for name, arm in arms.items()},
            lambda e: (prompts.blanks_aside[prompts.number[e.prompt_key]], answers[e.completion_key].plain),
        ),
        contaminated_by(study, prepared, prompts, {key: each.solved for key, each in answers.items() if each.solved}),
    )


CUT = " [...] "
SAMPLE_CHARACTERS = 4000


@dataclass(frozen=True)
class Sample:
    """A training row as the model sees it, special tokens and all; `completion` is what it learns."""

    prompt: str
    completion: str

    def cut(self, characters: int) -> Sample:
        """Each part at most so long: what is in its middle is `CUT`."""

        def short(text: str) -> str:
            half = characters // 2
            return text if len(text) <= characters else f"{text[:half]}{CUT}{text[-half:]}"

        return Sample(short(self.prompt), short(self.completion))


def sample(study: Study, prepared: Prepared, arm: str) -> Sample:
    """The first training row of an arm."""
    chat = prepared.chat
    row = tokenise(prepared.arms[arm].split("train")[0], chat, study, arm)
    return Sample(_text(chat, row.ids[: row.start]), _text(chat, row.ids[row.start :]))


def _text(chat: Chat, ids: Sequence[int]) -> str:
    return str(chat.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def for_the_report(study: Study, prepared: Prepared, found: Measured) -> list[DataFacts]:
    """The table of the data, as the report has it. What a derived arm repeats was looked for in its sources."""
    primary, *_ = study.benchmarks.named
    searched = {each.arm: len(each.found) for each in found.contamination if each.benchmark == primary}
    table = []
    for name, arm in found.arms.items():
        shown = sample(study, prepared, name).cut(SAMPLE_CHARACTERS)
        table.append(
            DataFacts(
                arm=name,
                source=arm.source,
                rows=arm.trained.rows,
                validation=arm.validation,
                problems=arm.trained.problems,
                solutions_per_problem=arm.trained.solutions_per_problem,
                approaches_per_problem=arm.trained.approaches_per_problem,
                answer_tokens=arm.completion_tokens,
                longest=prepared.counts[name]["max_tokens"],
                duplicates=None if arm.derived else len(arm.duplicates),
                near_duplicates=None if arm.derived else len(arm.near_duplicates),
                contaminated=None if arm.derived else searched[name],
                sample_prompt=shown.prompt,
                sample_completion=shown.completion,
            )
        )
    return table
