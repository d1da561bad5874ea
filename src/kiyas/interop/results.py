"""One file of results → its answers, separated by checkpoint, problem and sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kiyas.interop import course, lm_eval
from kiyas.interop.answers import Answer, Format, whole
from kiyas.interop.files import File, Notes, Row, Table, some
from kiyas.interop.names import Named, contest_date
from kiyas.types import BASE, BASE_ARM, AdapterId, Answered, KiyasError

SAMPLED = ("completion", "solution", "task_id")
"""Keys of the rows of human-eval and EvalPlus, which do not number their samples: each row of a problem is one"""
NUMBERS = ("completion_id", "sample_id", "sample_index", "sample_idx")
"""Keys by which others number them"""


@dataclass
class Part:
    """What one file says: its answers, separated by checkpoint, problem and sample."""

    file: File
    named: Named
    answers: dict[Answered, Answer] = field(default_factory=dict)
    rows: dict[Answered, str] = field(default_factory=dict)
    """the place of each answer's row"""
    by_name: set[AdapterId] = field(default_factory=set)
    """checkpoints whose arm is that of the file's name"""

    @property
    def problems(self) -> set[str]:
        return {problem for _, problem, _ in self.answers}

    @property
    def checkpoints(self) -> list[AdapterId]:
        return sorted({adapter for adapter, _, _ in self.answers})

    def rename(self, arm: str) -> None:
        """The file's name is of this arm."""
        new = {key: (replace(key[0], arm=arm) if key[0] in self.by_name else key[0], *key[1:]) for key in self.answers}
        self.answers = {new[key]: answer for key, answer in self.answers.items()}
        self.rows = {new[key]: row for key, row in self.rows.items()}
        self.by_name = {replace(adapter, arm=arm) for adapter in self.by_name}
        self.named = replace(self.named, arm=arm)


def part(table: Table, format: Format, file: File, named: Named, arm_of: Mapping[str, str], notes: Notes) -> Part:
    """Reads one file. A row's own arm, variant, seed and step count for more than the file's name.

    Raises KiyasError with file and line for a row that cannot be read; where the file was found by searching the row
    is noted and its verdict is missing. Also for a file most of whose rows contradict one another.
    """
    found = Part(file, named)
    nameless: set[str] = set()
    samples: Counter[tuple[AdapterId, str]] = Counter()
    numbered: dict[tuple[AdapterId, str], set[bool]] = {}
    filters = {str(row["filter"]) for _, row in table if row.get("filter")} if format.NAME == lm_eval.NAME else set()
    if len(filters) > 1:
        raise KiyasError(
            f"{file.path}: its rows are of several filters, {some(sorted(filters), 4)}, each with its own verdicts",
            "keep the rows of one filter",
        )
    count = clashes = 0
    several_models = len({str(row["model"]) for _, row in table if row.get("model")}) > 1
    with notes.rows(file, len(table)) as rows:
        for where, row in table:
            with rows.one():
                if not format.recognises(row):
                    raise KiyasError(f"{where}: no question_id (or problem_id, task_id) with an answer or a result")
                adapter = _adapter(where, row, named, arm_of, models=several_models)
                read = list(format.answers(row, where, rows.odd))
                number = next((key for key in ("sample", *NUMBERS) if isinstance(row.get(key), int)), None)
                if number is not None or not row.keys().isdisjoint(SAMPLED):
                    for each in read:
                        numbered.setdefault((adapter, each.id), set()).add(number is not None)
                if number in NUMBERS:
                    read = [replace(each, sample=whole(row[number], number, where)) for each in read]
                elif number is None and format.NAME == course.NAME and not row.keys().isdisjoint(SAMPLED):
                    read = [replace(each, sample=samples[adapter, each.id]) for each in read]
                    samples.update((adapter, each.id) for each in read)
                if not adapter.is_base and (row.get("arm") is None or row.get("step") is None):
                    nameless.add(adapter.arm)
                if row.get("arm") is None and adapter.arm == named.arm:
                    found.by_name.add(adapter)
                count += len(read)
                keys = [(adapter, new.id, new.sample) for new in read]
                if not read:
                    rows.left["held no answer"] += 1
                elif all(_repeats(found.answers.get(key), new) for key, new in zip(keys, read, strict=True)):
                    rows.left["repeated another row"] += 1
                clashes += sum(put(found.answers, key, new, rows.odd) for key, new in zip(keys, read, strict=True))
                found.rows |= dict.fromkeys(keys, where)
        mixed = next((problem for (_, problem), kinds in numbered.items() if len(kinds) > 1), None)
        if mixed is not None:
            raise KiyasError(
                f"{file.path}: of the samples of {mixed} some have a number and some do not",
                "number all of them with `sample`, or none",
            )
        if clashes and 2 * clashes >= count:
            raise KiyasError(
                f"{file.path}: {clashes} of {count} rows answer what another row of the same arm, seed, step and "
                "sample has answered otherwise",
                "give the rows their own `arm`, `seed`, `step` and `sample`, or name the files' arms with --arm",
            )
    for arm in sorted(nameless):
        if named.step is None:
            notes.add(f"the name has no step; taken as step 0 of arm {arm}", file.path)
    if nameless and named.by_epoch:
        notes.add(f"the name has epochs, not steps; epoch {named.step} is used as the step", file.path)
    _check_window(found, named, notes)
    return found


def _check_window(found: Part, named: Named, notes: Notes) -> None:
    """Notes problems of contests that took place well outside the months in the file's name."""
    if named.window is None:
        return
    first, last = named.window
    days = {problem: day for problem in sorted(found.problems) if (day := contest_date(problem))}
    outside = [problem for problem, day in days.items() if (first - day).days > 14 or (day - last).days > 14]
    if outside:
        notes.add(
            f"the name says {first:%Y-%m} to {last:%Y-%m}, but {len(outside)} problems are of another time "
            f"(such as {outside[0]}, about {days[outside[0]]})",
            found.file.path,
        )


def repeated(part: Part, kept: Mapping[Answered, Answer]) -> int:
    """How many of its rows say nothing but what is `kept`, or what replaces it."""
    new = {row for key, row in part.rows.items() if not _repeats(kept.get(key), part.answers[key])}
    return len(set(part.rows.values()) - new)


def _repeats(old: Answer | None, new: Answer) -> bool:
    """Two rows about one sample; an answer and its verdict in rows of their own complete one another."""
    return old is not None and (old.verdict is None) == (new.verdict is None)


def put(kept: dict[Answered, Answer], key: Answered, new: Answer, odd: Counter[str]) -> bool:
    """Adds an answer. True where it contradicts the one before: both with a verdict, and not the same."""
    old = kept.get(key)
    kept[key] = new if old is None else _later(old, new, odd)
    if old is None or old.missing or new.missing:
        return False
    return (old.verdict, old.text) != (new.verdict, new.text)


def _later(old: Answer, new: Answer, odd: Counter[str]) -> Answer:
    """Two rows about one sample: the later counts, but a verdict is never given up for none.

    An answer without a verdict, of a file of generations, completes the row with one and is not unusual.
    """
    if None in (old.verdict, new.verdict):
        judged, plain = (old, new) if new.verdict is None else (new, old)
        if judged.program is not None and plain.program is not None and judged.program.strip() != plain.program.strip():
            odd["the generation differs from the program with the verdict; the latter was kept"] += 1
        if judged.text is not None:
            return judged
        return replace(judged, text=plain.text, program=plain.program, chat=plain.chat)
    if new.missing and not old.missing:
        odd["answered twice: the earlier verdict was kept, the later was never judged"] += 1
        return old
    same = (old.verdict, old.text) == (new.verdict, new.text)
    odd["the same row twice" if same else "answered twice: the later row was kept"] += 1
    if old.verdict != new.verdict:
        odd["answered twice with different verdicts"] += 1
    return new


def adapter_of(named: Named) -> AdapterId:
    """The checkpoint that a name describes; step 0 where it has none."""
    return BASE if named.arm == BASE_ARM else AdapterId(named.arm, seed=named.seed, step=named.step or 0)


def _adapter(where: str, row: Row, named: Named, arm_of: Mapping[str, str], *, models: bool) -> AdapterId:
    """Whom the row is about: its own words first, `model` where the file holds several, else the file's name."""
    if row.get("arm") is None:
        arm = str(row["model"]) if models and row.get("model") else None
        return adapter_of(named if arm is None else replace(named, arm=arm_of.get(arm, arm)))
    arm, variant = row["arm"], row.get("variant") or ""
    if not isinstance(arm, str) or not arm.strip() or not isinstance(variant, str):
        raise KiyasError(f"{where}: arm is {arm!r} and variant {variant!r}, expected names")
    own = {"seed": named.seed, "step": named.step or 0}
    own |= {key: row[key] for key in own if row.get(key) is not None}
    seed, step = (whole(value, key, where) for key, value in own.items())
    arm = arm_of.get(arm, arm)
    return BASE if arm == BASE_ARM else AdapterId(arm, variant, seed, step)
