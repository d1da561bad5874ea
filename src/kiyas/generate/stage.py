"""One worker's share of the generate stage: answers are appended to a part's file, stretch by stretch.

A wave that takes less than `STRETCH_S` is one stretch. Of a longer one, what is in flight is written beside the part's
file after so many seconds, and the wave goes on from there (decoder.py). On a CPU that is the whole flight with its
cache, and changes nothing. Elsewhere it is tokens, and the first stretch that is so long measures how many decoding
steps all later ones have.

The plan of what is decoded at once is chosen when a part begins, and kept beside its answers. Where memory runs out
all the same, the plan is halved: the answers written so far remain, all others are begun anew in new waves, and the
file says after how many answers. So a resumed part takes the same course.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kiyas.data import hub
from kiyas.data.benchmarks import question
from kiyas.generate.decoder import Flight, Generator
from kiyas.generate.memory import Needs, Plan, decoding_budget
from kiyas.generate.redecoding import other_shape
from kiyas.generate.trial import try_widest
from kiyas.generate.work import Job, Question, waves, waves_of
from kiyas.model.adapters import StackedModel
from kiyas.model.base import Base
from kiyas.model.checkpoints import load_stack, saved_spec, state_notes
from kiyas.model.device import available_bytes, is_out_of_memory
from kiyas.runfolder.files import (
    JsonlWriter,
    each_row,
    read_json,
    read_jsonl,
    read_sealed,
    settle,
    write_jsonl,
    write_sealed,
)
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import float32_modules
from kiyas.study.settings import Generation, Study
from kiyas.types import AdapterId, Answered, Completion, KiyasError
from kiyas.work import deadline
from kiyas.work.engine import OnProgress, Place
from kiyas.work.progress import tell

STRETCH_S, FEWEST_STEPS = 40.0, 64
"""Decoding that a kill costs at most; at least so many steps where each stretch reads again what is in flight."""
SAVING_S, SHARE = 5.0, 8
"""Seconds that writing a cache takes, until that was measured; a stretch lasts so many times longer."""
Flying = dict[Answered, tuple[int, ...]]
"""Answers in flight, with their tokens so far, in the order of their rows."""


def generate_part(
    place: Place,
    study_json: dict[str, Any],
    adapters: list[list[Any]],
    problems: tuple[int, int] | None,
    part: int,
    again: list[list[Any]],
    report: OnProgress,
) -> None:
    """One worker's share: all answers of the given [arm, variant, seed, step] adapters that are still missing.

    `problems`: from which one to before which; None: all. Whole stretches are appended to the part's file; what a kill
    left of one is made again. Then those of `again` ([arm, variant, seed, step, problem, sample]) are decoded once more
    in another batch shape, into a file of their own. Raises OutOfTimeError when time is up.
    """
    folder, study = RunDir(Path(place.root)), Study.model_validate(study_json)
    ids = [AdapterId(*fields) for fields in adapters]
    rank = max(saved_spec(where).rank for _, where in _places(folder, study, ids))
    rows = itertools.islice(each_row(folder.problems), *(problems or (None,)))
    mine = _Part.of(folder, study, part, ids, rank, rows, place)
    mine.run(place.sharing, report)
    if again:
        other = mine.again([(AdapterId(*who), problem, sample) for *who, problem, sample in again])
        if other is None:
            report(len(again), "")
        else:
            other.run(place.sharing, report)


def answers_to(
    folder: RunDir, study: Study, ids: list[AdapterId], row: dict[str, Any], report: OnProgress
) -> list[Completion]:
    """What the base and chosen checkpoints of a run answer to one problem, in this process. Nothing is written."""
    bare = [id for id in ids if id.arm in study.arms and study.arms[id.arm].model is not None]
    stacked = [id for id in ids if id not in bare]
    made = []
    for group in filter(None, [stacked, *([id] for id in bare)]):
        rank = max(saved_spec(where).rank for _, where in _places(folder, study, group))
        made += _Part.of(folder, study, 0, group, rank, [row]).kept_in_memory(report)
    return sorted(made, key=lambda each: (ids.index(each.adapter), each.sample))


def try_answers(place: Place, study_json: dict[str, Any], adapters: int, _: OnProgress) -> None:
    """Before training: the widest decoding of so many adapters, so that what will not fit fails in the first minute.

    Raises KiyasError where not even one answer at a time fits.
    """
    folder, study = RunDir(Path(place.root)), Study.model_validate(study_json)
    ids = [AdapterId("trial", step=step) for step in range(adapters)]
    rank = max(study.peft_of(arm).r for arm in study.trained)
    _Part.of(folder, study, 0, ids, rank, each_row(folder.problems), place).tried()


@dataclass
class _Part:
    folder: RunDir
    part: int
    base: Base
    model: StackedModel
    study: Study
    ids: list[AdapterId]
    rank: int
    """the largest of all adapters: smaller ones are padded"""
    questions: list[Question]
    wanted: tuple[Answered, ...] | None = None
    """the answers to decode again, by the plan `shape`; None: all answers, for the first time"""
    shape: Plan | None = None

    @classmethod
    def of(
        cls,
        folder: RunDir,
        study: Study,
        part: int,
        ids: list[AdapterId],
        rank: int,
        problems: Iterable[dict[str, Any]],
        place: Place | None = None,
    ) -> _Part:
        own, arm = study.training, study.arms.get(ids[0].arm)
        device, models = (place.device, place.models) if place else (own.device, ())
        if arm is not None and arm.model is not None:
            base = Base.load(dict(models).get(arm.model, arm.model), device, own.dtype, None, own.load_in_4bit)
            model = StackedModel(base.model)
        else:
            wide = float32_modules(folder, study)
            base = Base.load(hub.base_folder(study, models), device, own.dtype, wide, own.load_in_4bit)
            model = StackedModel(base.model, study.target_modules)
        questions = [
            Question(str(row["id"]), tuple(base.chat.prompt_ids(question(row), study.dataset.system)))
            for row in problems
        ]
        return cls(folder, part, base, model, study, ids, rank, questions)

    def again(self, wanted: list[Answered]) -> _Part | None:
        """The same worker, decoding some of its answers once more. None where one row at a time is all that fits."""
        ids = list(dict.fromkeys(id for id, _, _ in wanted))
        first = [Plan(**each) for each in read_sealed(plans_file(self.folder, self.part))]
        shape = other_shape(first, len(ids), len(wanted))
        return None if shape is None else replace(self, ids=ids, wanted=tuple(wanted), shape=shape)

    @property
    def file(self) -> Path:
        return part_file(self.folder, self.part, again=self.wanted is not None)

    @property
    def plans(self) -> Path:
        return _plans_of(self.file)

    @property
    def flight(self) -> Path:
        """Answers in flight when the last stretch ended."""
        return self.file.with_suffix(".flight.json")

    @property
    def cache(self) -> Path:
        """The same with their cache, instead."""
        return self.file.with_suffix(".flight.safetensors")

    @property
    def settings(self) -> Generation:
        return self.study.generation

    def tried(self) -> None:
        """Tries the plan of a new part, and halves of it where memory runs out."""
        plan = self._chosen(1)
        while True:
            try:
                return try_widest(self.base, self.model, self.settings, plan, self._longest_prompt, self.rank)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                trouble = error.with_traceback(None)
            plan = self._smaller(plan, trouble)

    def _smaller(self, plan: Plan, trouble: Exception) -> Plan:
        """The plan halved. Raises KiyasError where nothing is left to halve."""
        smaller = plan.halved()
        if smaller is None:
            raise KiyasError(
                f"the device ran out of memory with one answer at a time: {str(trouble).splitlines()[0]}",
                "end what else uses its memory and run the same command again (finished answers are kept), or "
                "lower generation.max_new_tokens and add --redo generate",
            ) from trouble
        return smaller

    def run(self, workers: int, report: OnProgress) -> None:
        """Gives all missing answers; halves the plan as often as memory runs out."""
        path = self.file
        settle(path)
        made = [Completion.of(row) for row in read_jsonl(path)] if path.exists() else []
        plans = self._begun() or [self._chosen(workers)]
        write_sealed(self.plans, [plan.to_json() for plan in plans])
        whole, flying = self._whole(plans, made)
        write_jsonl(path, (completion.to_row() for completion in whole), sealed=True)
        report(len(whole), "")
        most = self.settings.max_rows
        if most is not None and most < plans[-1].rows:  # lowered since the part began
            self._go_on(plans, replace(plans[-1], adapters=min(most, plans[-1].adapters), rows=most), whole)
            flying = {}
        while (trouble := self._answered(plans, whole, flying, report)) is not None:
            flying = {}
            smaller = self._smaller(plans[-1], trouble)
            tell(
                f"generate: out of memory; going on with {smaller.rows} answers of {smaller.adapters} adapters at once "
                f"instead of {plans[-1].rows} of {plans[-1].adapters}"
            )
            self._go_on(plans, smaller, whole)

    def _go_on(self, plans: list[Plan], plan: Plan, whole: list[Completion]) -> None:
        """Another plan from here on."""
        plans.append(replace(plan, after=len(whole), stretch=0))
        write_sealed(self.plans, [each.to_json() for each in plans])

    def _whole(self, plans: list[Plan], made: list[Completion]) -> tuple[list[Completion], Flying]:
        """What is kept of the answers: those of earlier plans, and whole waves and stretches of the last; and what was
        in flight when that stretch ended."""
        plan, (noted, flying) = plans[-1], self._noted(len(plans))
        if noted > len(made):
            noted, flying = 0, {}  # of a time before the part went on elsewhere: the wave is begun again
        whole, later = made[: plan.after], {each.key: each for each in made[plan.after :]}
        of_stretches = {each.key for each in made[plan.after : noted]}
        for group, cut in self._waves(plan, made[: plan.after]):
            for wave in cut:
                keys = _keys(group, wave)
                kept = keys if all(key in later for key in keys) else [key for key in keys if key in of_stretches]
                whole += [later[key] for key in kept]
        return whole, flying

    def _noted(self, plans: int) -> tuple[int, Flying]:
        """How many answers the file had when the last stretch ended, and what was in flight then."""
        with _or_begun_again():
            found = state_notes(self.cache) or (read_sealed(self.flight) if self.flight.exists() else {"plans": None})
        if found["plans"] != plans:
            return 0, {}
        rows = found["flying"]
        return found["after"], {
            (AdapterId(*who), problem, sample): tuple(map(int, made.split())) for *who, problem, sample, made in rows
        }

    def _note(self, plans: int, after: int, generator: Generator) -> None:
        ids = generator.stack.ids
        flying = {(ids[j.k], j.question.problem_id, j.sample): j.made for j in generator.left if j.made}
        rows = [
            [*id.fields().values(), problem, sample, " ".join(map(str, made))]  # text: there may be millions of tokens
            for (id, problem, sample), made in flying.items()
        ]
        notes = {"plans": plans, "after": after, "flying": rows}
        if generator.flight is None:
            write_sealed(self.flight, notes)
            self.cache.unlink(missing_ok=True)
        elif shutil.disk_usage(self.file.parent).free > 2 * generator.flight.nbytes:
            generator.flight.save(self.cache, notes)

    def _waves(self, plan: Plan, before: list[Completion]) -> Iterator[tuple[list[AdapterId], list[list[Job]]]]:
        """The adapters that are taken together, with all waves that the plan cuts their missing answers into."""
        given = {completion.key for completion in before}
        for start in range(0, len(self.ids), plan.adapters):
            group = self.ids[start : start + plan.adapters]
            number = {id: k for k, id in enumerate(group)}
            if self.wanted is not None:
                question = {each.problem_id: each for each in self.questions}
                missing = [key for key in self.wanted if key[0] in number and key not in given]
                yield group, waves_of([Job(number[id], question[p], s) for id, p, s in missing], plan.rows)
                continue
            made = {(number[id], problem, sample) for id, problem, sample in given if id in number}
            yield group, waves(len(group), self.questions, self.settings.num_samples, plan.rows, made)

    def _answered(
        self, plans: list[Plan], whole: list[Completion], flying: Flying, report: OnProgress
    ) -> Exception | None:
        """Decodes what is missing, stretch by stretch, and adds each to `whole`. Returns the error that stopped it."""
        plan, have, new = plans[-1], {completion.key for completion in whole}, list[Completion]()
        work = [
            (group, [left for wave in cut if (left := _left(group, wave, have, flying))])
            for group, cut in self._waves(plan, whole[: plan.after])
        ]
        work = [(group, missing) for group, missing in work if missing]
        try:
            if work:
                try_widest(self.base, self.model, self.settings, plan, self._longest_prompt, self.rank)
            longest, saving = 0.0, SAVING_S
            with JsonlWriter(self.file) as writer:
                for generator, left in self._generators(plan, work):
                    if self.cache.exists() and any(job.made for job in left):
                        with _or_begun_again():
                            generator.flight = Flight.load(generator, self.cache, left)
                    while left:
                        if longest:
                            deadline.stop_if_near(2 * saving if generator.keeps_cache else longest)
                        clock = _Stretch(plans[-1].stretch, saving if generator.keeps_cache else None)
                        for completion in generator.answer(left, plan.rows, clock.goes_on):
                            new.append(completion)
                            report(1, "")
                        writer.write(*(completion.to_row() for completion in new))
                        whole += new
                        new = []
                        decoded = clock.elapsed
                        if left := generator.left:
                            if not plans[-1].stretch and not generator.keeps_cache:
                                plans[-1] = replace(plan, stretch=clock.steps)
                                write_sealed(self.plans, [each.to_json() for each in plans])
                            self._note(len(plans), len(whole), generator)
                            saving = clock.elapsed - decoded
                        else:
                            self.cache.unlink(missing_ok=True)
                        longest = max(longest, clock.elapsed)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.model.stack = None
            report(-len(new), "")
            return error.with_traceback(None)  # whose frames would keep the cache alive
        return None

    def _generators(
        self, plan: Plan, work: list[tuple[list[AdapterId], list[list[Job]]]]
    ) -> Iterator[tuple[Generator, list[Job]]]:
        """Each wave, with what answers it: the adapters of a group are loaded once."""
        for group, missing in work:
            stack = load_stack(_places(self.folder, self.study, group), self.model, self.base.device, self.base.dtype)
            generator = Generator(
                self.base,
                self.model,
                stack,
                self.settings,
                prefill_tokens=plan.prefill_tokens,
                keeps_cache=keeps_cache(self.base),
            )
            generator.canary(self.questions[0])
            for wave in missing:
                yield generator, wave

    def kept_in_memory(self, report: OnProgress) -> list[Completion]:
        """All answers, of which nothing is written."""
        plan = self._chosen(1)
        while True:
            made: list[Completion] = []
            try:
                for generator, wave in self._generators(plan, list(self._waves(plan, []))):
                    for completion in generator.answer(wave, plan.rows):
                        made.append(completion)
                        report(1, "")
                return made
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.model.stack = None
                report(-len(made), "")
                trouble = error.with_traceback(None)
            plan = self._smaller(plan, trouble)

    @property
    def _longest_prompt(self) -> int:
        return max(len(question.prompt) for question in self.questions)

    def _begun(self) -> list[Plan]:
        """The plans of a part that was begun before, the one in force last; none for a new part."""
        if self.plans.exists():
            return [Plan(**each) for each in read_sealed(self.plans)]
        if self.wanted is not None:
            return []
        # Version 0.1.0 kept the number of rows, if it chose one, and took as many adapters together.
        rows_only = self.file.with_suffix(".rows.json")
        rows = self.settings.max_rows
        if rows is None and rows_only.exists():
            rows = int(read_json(rows_only)["rows"])
        if rows is not None and (rows_only.exists() or self.file.exists()):
            return [Plan(min(rows, len(self.ids)), rows, prefill_tokens=16384)]
        return []

    def _chosen(self, workers: int) -> Plan:
        if self.shape is not None:
            return self.shape
        base, settings = self.base, self.settings
        parameters = sum(site.inputs + site.outputs for site in self.model.sites) * self.rank
        needs = Needs.of(
            base.model.config,
            base.dtype,
            parameters,
            self._longest_prompt,
            settings.max_new_tokens,
            sampled=settings.temperature > 0,
            packed=base.packed,
            plain_head=base.plain_head,
            load_in_4bit=base.load_in_4bit,
            float32_modules=base.float32_modules,
        )
        kind = base.device.type
        budget = decoding_budget(kind, available_bytes(base.device), workers, base.nbytes)
        answers = len(self.questions) * settings.num_samples
        return needs.plan(budget, len(self.ids), answers, kind, settings.max_rows)


def _places(folder: RunDir, study: Study, ids: list[AdapterId]) -> list[tuple[AdapterId, Path | None]]:
    """None: without an adapter, as the base and whole models answer."""
    bare = {name for name, arm in study.arms.items() if arm.model is not None}
    return [(id, None if id.is_base or id.arm in bare else folder.checkpoints / id.folder) for id in ids]


@contextlib.contextmanager
def _or_begun_again() -> Iterator[None]:
    try:
        yield
    except KiyasError as error:
        raise KiyasError(error.args[0], "remove it, and the answers in flight are begun again") from error


def keeps_cache(base: Base) -> bool:
    """Whether a cache is written down more quickly than it is made again."""
    return base.packed and base.device.type == "cpu"


class _Stretch:
    """How long one stretch is: so many steps, or, where that is 0, so many as take `STRETCH_S`.

    `saving`: seconds that writing the cache takes; it may end at any step then, and must where time is up.
    """

    def __init__(self, most: int, saving: float | None) -> None:
        self.most, self.saving, self.steps, self._began = most, saving, 0, time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def goes_on(self, steps: int) -> bool:
        self.steps = steps
        if self.saving is not None:
            return self.elapsed < max(STRETCH_S, SHARE * self.saving) and not deadline.is_near(2 * self.saving)
        return steps < self.most if self.most else steps < FEWEST_STEPS or self.elapsed < STRETCH_S


def _left(group: list[AdapterId], wave: list[Job], have: set[Answered], flying: Flying) -> list[Job]:
    """What is left of a wave: answers in flight first, then those that were not begun."""
    jobs = {key: job for key, job in zip(_keys(group, wave), wave, strict=True) if key not in have}
    begun = [replace(jobs[key], made=made) for key, made in flying.items() if key in jobs]
    return begun + [job for key, job in jobs.items() if key not in flying]


def _keys(group: list[AdapterId], wave: list[Job]) -> list[Answered]:
    return [(group[job.k], job.question.problem_id, job.sample) for job in wave]


def files_of(part: int, adapters: list[list[Any]]) -> tuple[list[str], list[str]]:
    """What `generate_part` reads of the run folder, and what it writes there: patterns."""
    folders = (AdapterId(*each).folder for each in adapters)
    # Not the caches of answers in flight: they are large, and a part that goes on elsewhere begins that wave again.
    state = [f"generate/state/*{kind}-{part}.*json*" for kind in ("part", "again")]
    return ["data/problems.jsonl", *(f"train/checkpoints/{each}/*" for each in folders)], state


def part_file(folder: RunDir, part: int, *, again: bool = False) -> Path:
    """Where one part's completions wait until all parts are merged into `generate/completions.jsonl`.

    `again`: those that were decoded once more, for `generate/redecoded.jsonl`.
    """
    return folder.stage(Stage.GENERATE) / "state" / f"{'again' if again else 'part'}-{part}.jsonl"


def plans_file(folder: RunDir, part: int, *, again: bool = False) -> Path:
    """What one part decoded at once: a list of plans, each in force until the next."""
    return _plans_of(part_file(folder, part, again=again))


def _plans_of(file: Path) -> Path:
    return file.with_suffix(".layout.json")
