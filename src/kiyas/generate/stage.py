"""One worker's share of the generate stage: answers are appended to a part's file, wave by wave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kiyas.data import hub
from kiyas.data.benchmarks import question
from kiyas.generate.decoder import Generator, rows_that_fit
from kiyas.generate.work import Job, Question, waves
from kiyas.model.adapters import StackedModel
from kiyas.model.base import Base
from kiyas.model.checkpoints import load_stack
from kiyas.runfolder.files import JsonlWriter, each_row, read_json, read_jsonl, write_json, write_jsonl
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import Generation, Study
from kiyas.types import AdapterId, Completion
from kiyas.work.workers import OnProgress


def generate_part(
    root: str, study_json: dict[str, Any], adapters: list[list[Any]], part: int, report: OnProgress
) -> None:
    """One worker's share: all answers of the given [arm, variant, seed, step] adapters that are still missing.

    Whole waves are appended to the part's file; what a kill left of a wave is taken back and made again.
    """
    folder, study = RunDir(Path(root)), Study.model_validate(study_json)
    base = Base.load(hub.base_folder(study), study.training.device, study.training.dtype)
    model = StackedModel(base.model, study.target_modules)
    ids = [AdapterId(*fields) for fields in adapters]
    questions = [
        Question(str(row["id"]), tuple(base.chat.prompt_ids(question(row), study.dataset.system)))
        for row in each_row(folder.problems)
    ]
    rows = _fixed_rows(folder, base, questions, study.generation, len(ids), part)
    path = part_file(folder, part)
    made = {c.key: c for c in map(Completion.of, read_jsonl(path))} if path.exists() else {}
    whole: list[Completion] = []
    open_groups: list[tuple[list[AdapterId], list[list[Job]]]] = []
    # With more adapters than rows, only so many at a time: memory stays bounded.
    for group in (ids[start : start + rows] for start in range(0, len(ids), rows)):
        missing = []
        for wave in waves(len(group), questions, study.generation.num_samples, rows):
            keys = [(group[job.k], job.question.problem_id, job.sample) for job in wave]
            if all(key in made for key in keys):
                whole += [made[key] for key in keys]
            else:
                missing.append(wave)
        if missing:
            open_groups.append((group, missing))
    write_jsonl(path, [completion.to_row() for completion in whole])
    report(len(whole), "")
    with JsonlWriter(path) as writer:
        for group, missing in open_groups:
            places = [(id, None if id.is_base else folder.checkpoints / id.folder) for id in group]
            generator = Generator(base, model, load_stack(places, model, base.device), study.generation)
            generator.canary(questions[0])
            for wave in missing:
                answered = []
                for completion in generator.answer(wave, rows):
                    answered.append(completion.to_row())
                    report(1, "")
                writer.write(*answered)


def _fixed_rows(
    folder: RunDir, base: Base, questions: list[Question], settings: Generation, adapters: int, part: int
) -> int:
    """Rows decoded at once: chosen when the part first starts and kept, since rounding depends on it."""
    if settings.max_rows is not None:
        return settings.max_rows
    path = part_file(folder, part).with_suffix(".rows.json")
    if not path.exists():
        longest = max(len(question.prompt) for question in questions) + settings.max_new_tokens
        jobs = adapters * len(questions) * settings.num_samples
        write_json(path, {"rows": rows_that_fit(base.model.config, base.model.dtype, base.device, longest, jobs)})
    return int(read_json(path)["rows"])


def part_file(folder: RunDir, part: int) -> Path:
    """Where one part's completions wait until all parts are merged into `generate/completions.jsonl`."""
    return folder.stage(Stage.GENERATE) / "state" / f"part-{part}.jsonl"
