"""data → train → generate → judge → analyse → report, on one screen.

Every stage reads files, writes files and declares itself finished by a manifest, last. Running again does what is
missing and nothing else.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kiyas import judge, report
from kiyas.analyse import Findings, analyse
from kiyas.interop import adapters
from kiyas.judge.pulse import under_way
from kiyas.judge.terminal import many
from kiyas.judge.tolerances import with_statement
from kiyas.judging.stage import check_ready, judge_completions, judge_redecoded
from kiyas.pipeline import cluster, identity, trackers
from kiyas.pipeline.layout import Part, all_trainings, do, float32_modules, held_at_once, parts_of, places, settled
from kiyas.pipeline.storing import stored, take_back
from kiyas.runfolder import manifests, rows
from kiyas.runfolder.files import (
    ChangedError,
    each_row,
    read_jsonl,
    read_sealed,
    settle,
    write_json,
    write_jsonl,
    write_sealed,
)
from kiyas.runfolder.manifests import REMADE
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import read_record
from kiyas.study.settings import Study
from kiyas.types import BASE, AdapterId, Completion, KiyasError
from kiyas.work import deadline
from kiyas.work.engine import Engine
from kiyas.work.progress import bar, tell
from kiyas.work.workers import HERE, overlooked_gpu, warm


def run(
    study: Study,
    folder: RunDir,
    *,
    file: Path | None = None,
    text: str = "",
    overrides: list[str] | None = None,
    until: Stage = Stage.REPORT,
    redo: Stage | None = None,
    max_hours: float | None = None,
    ray: str | None = None,
) -> bool:
    """Runs a study, or continues it. `text` is the study file as given, and `file` where it is, for the record.

    `ray`: the address of a Ray cluster whose nodes train, answer and judge. Returns whether it came to its end: not
    where `max_hours` passed before. Raises KiyasError when the folder holds another study's results or is in use.
    """
    if max_hours is not None and not max_hours > 0:
        raise KiyasError(f"--max-hours: {max_hours:g} is not a positive number of hours", "such as --max-hours 11.5")
    hours = deadline.within(None if max_hours is None else 3600 * max_hours)
    with hours, folder.lock(), contextlib.ExitStack() as while_it_runs:
        engine = HERE if ray is None else while_it_runs.enter_context(cluster.joined(ray))
        if redo is not None or folder.manifest(Stage.GENERATE) is None:
            identity.refuse_missing_packages(study)
        store = take_back(study, folder, redo)
        study = identity.pinned(study, folder)
        tier = identity.open_run(study, folder, file, text, overrides or [], redo, engine)
        study = identity.isolated(study, tier)
        identity.note_other_versions(study, folder)
        _drop_damaged(folder)
        if folder.manifest(Stage.JUDGE) is None and not manifests.is_lost(folder, Stage.JUDGE):
            # What its seal does not confirm is judged again, not refused.
            for path in (folder.judgments, folder.redecoded_judgments):
                settle(path)
        wanted = [stage for stage in _to(until) if stage in REMADE or folder.manifest(stage) is None]
        manifests.refuse(folder, [name for stage in wanted for name in manifests.READS[stage]])
        tell(
            f"{study.name}: {', '.join(study.arms)} × {many(len(study.seed_list), 'seed')}, into {folder.root}; "
            f"programs run in {tier} isolation"
        )
        if folder.manifest(Stage.DATA) is not None and folder.manifest(Stage.JUDGE) is None:
            # The judge's settings may have changed since the data were prepared.
            check_ready(judge.read_problems(folder.problems, "kiyas"), study.judge)
        if folder.manifest(Stage.GENERATE) is None and until is not Stage.DATA and engine is HERE:
            _say_what_computes(study, folder)
            if len(places(engine, study, 2)) > 1:
                warm()
        while_it_runs.enter_context(trackers.following(study, folder, redo))
        while_it_runs.enter_context(stored(study, folder, store))
        language = study.report.language
        for stage in _to(until):
            stop_note(folder, stage).unlink(missing_ok=True)
            manifest, inputs = folder.manifest(stage), identity.inputs(stage, folder, study, language)
            if manifest is not None:
                changed = identity.stale(manifest["inputs"], inputs)
                if not changed:
                    manifests.tidy(folder, stage)
                    continue
                identity.refuse_stale(stage, folder, changed)
            manifests.refuse(folder, manifests.READS[stage])  # hours may have passed
            identity.begin(stage, folder, inputs)
            started = time.monotonic()
            try:
                deadline.refuse_more()
                with _gone_meanwhile(folder), under_way(stage):
                    counts = STAGES[stage](study, folder, engine)
                if placed := engine.placed():
                    counts["placed"] = placed
            except deadline.OutOfTimeError as error:
                assert max_hours is not None
                _say_stopped(study, folder, stage, f"by --max-hours {max_hours:g}", error.far, redo)
                return False
            identity.refuse_other_models(study, folder, stage)
            manifests.finish(folder, stage, inputs, counts, time.monotonic() - started)
            deadline.is_near()  # a stage was done: time may end before the next
    return True


def stop_note(folder: RunDir, stage: Stage) -> Path:
    """Where a stage that was stopped for want of time says so, until it goes on."""
    return folder.stage(stage) / "state" / "stopped.json"


def _say_stopped(study: Study, folder: RunDir, stage: Stage, why: str, far: str, redo: Stage | None) -> None:
    done = f"in {stage}, {far} done" if far else f"before {stage}"
    if far:
        write_sealed(stop_note(folder, stage), {"said": f"stopped {why}, {far} done"})
    again = "the same command" if redo is None else "the same command without --redo"
    tell(f"{study.name}: stopped {why} {done}; all of it is kept, and {again} continues the run")


@contextlib.contextmanager
def _gone_meanwhile(folder: RunDir) -> Iterator[None]:
    """A file of the run folder that somebody removes during a stage is named."""
    try:
        yield
    except FileNotFoundError as error:
        if error.filename is None or not Path(error.filename).is_relative_to(folder.root):
            raise
        raise KiyasError(
            f"{error.filename} was removed while the run was going on", "the same command makes it again, or says how"
        ) from error


def _to(until: Stage) -> list[Stage]:
    return [stage for stage in Stage if until in stage.later]


def _drop_damaged(folder: RunDir) -> None:
    """Removes findings and report where a file of theirs is not what was written: they are made again."""
    for stage in REMADE:
        if (said := _damaged_manifest(folder, stage)) or (
            said := next(map(str, manifests.damages(folder, [f"{stage}/"])), "")
        ):
            tell(f"{said}: made again")
            folder.drop(stage)


def _damaged_manifest(folder: RunDir, stage: Stage) -> str:
    try:
        folder.manifest(stage)
    except ChangedError as error:
        return str(error.args[0])
    return ""


def redraw(folder: RunDir, language: str | None = None) -> tuple[Findings, Path]:
    """Findings and report of a run or an import, from what is judged so far; the page in that language.

    None: the study's own language. Raises KiyasError for a damaged file.
    """
    with folder.lock():
        _drop_damaged(folder)
        record, started = read_record(folder), time.monotonic()
        findings = analyse(folder.root)
        write_sealed(folder.findings, findings.to_json())
        page = report.write(folder.root, findings, language=language)
        if folder.manifest(Stage.JUDGE) is not None:
            for stage, counts in ((Stage.ANALYSE, {}), (Stage.REPORT, {"page": page.name})):
                inputs = identity.inputs(stage, folder, record.study, record.language)
                manifests.finish(folder, stage, inputs, counts, time.monotonic() - started)
    return findings, page


# -- the stages, in order -------------------------------------------------------------------------------------


def prepare_data(study: Study, folder: RunDir, _: Engine) -> dict[str, Any]:
    """Arms → data/ARM.jsonl; benchmark → data/problems.jsonl; what the arms hold → data/facts.json."""
    from kiyas.pipeline import mistakes
    from kiyas.pipeline.measure import for_the_report, measure
    from kiyas.pipeline.prepare import prepare, refuse_unexpected

    prepared = prepare(study)
    refuse_unexpected(study, prepared.counts)
    for name, examples in prepared.examples.items():
        write_jsonl(folder.arm_data(name), (example.to_row() for example in examples))
    write_jsonl(folder.problems, prepared.problems)
    measured = measure(study, prepared)
    write_json(folder.contamination, [asdict(each) for each in measured.contamination])
    write_sealed(folder.data_facts, [asdict(each) for each in for_the_report(study, prepared, measured)])
    for line in prepared.sentences():
        tell(f"data: {line}")
    for each in measured.contamination:
        if each.found:
            problems = many(len(each.found), "problem")
            tell(f"data: in the training data of {each.arm}: {problems} of the benchmark {each.benchmark!r}")
    doubts = [*mistakes.in_words(study, measured.shared), *prepared.doubts(study)]
    for line in doubts:
        tell(f"data: {line}")
    identity.note(folder, [*doubts, *prepared.flags()])
    if study.judge.allows_stated_errors and (ids := with_statement(judge.read_problems(folder.problems, "kiyas"))):
        tell(
            f"data: {len(ids)} of {len(prepared.problems)} problems are judged within the error their statement allows"
        )
    wrong = [{"benchmark": label, **asdict(each)} for label, found in prepared.findings.items() for each in found]
    return {
        "arms": prepared.counts,
        "problems": len(prepared.problems),
        "tests": prepared.tests,
        "problems_found_wrong": wrong,
    }


def train(study: Study, folder: RunDir, engine: Engine) -> dict[str, Any]:
    """All trainings of all arms, stacked; log and checkpoints."""
    from kiyas.pipeline.prepare import budget_steps, refuse_unfit
    from kiyas.train.loop import layout_notes, layout_path
    from kiyas.train.stage import files_of, merge_logs, refuse_changed, train_part

    manifest = folder.manifest(Stage.DATA)
    assert manifest is not None
    counts = manifest["counts"]["arms"]
    # Settings of training may have changed since the data were prepared.
    refuse_unfit(study, counts)
    study, steps = settled(engine, study, folder), budget_steps(study, counts)
    trainings: list[list[Any]] = [[*id.training] for id in all_trainings(study)]
    parts = []
    if trainings:
        float32_modules(engine, folder, study)
        longest = max(counts[arm]["max_tokens"] for arm in study.trained)
        answering = [arm for arm, _, seed in trainings if seed in study.seed_list]
        checkpoints = 1 + sum(math.ceil(steps[arm] / study.training.save_steps) for arm in answering)
        most = held_at_once(engine, folder, study, trainings, longest, checkpoints)
        parts = parts_of(engine, folder, Stage.TRAIN, study, trainings, most)
    total = sum(steps[arm] for arm, _, _ in trainings)
    with bar("train", total, "adapter-steps") as progress:
        do(
            engine,
            folder,
            study,
            train_part,
            parts,
            lambda part: (part.units, steps, part.number),
            lambda part: files_of(study, part.number, part.units),
            progress,
        )
    refuse_changed(folder, study.trained, [part.number for part in parts])
    log = merge_logs(folder, len(parts))
    layouts = [read_sealed(layout_path(folder, part.number)) for part in parts]
    identity.note(folder, layout_notes(layouts))
    for name, arm in study.arms.items():
        if arm.checkpoints is not None:
            more, notes = adapters.adopt(name, Path(arm.checkpoints), folder, study.model_name_or_path)
            log += more
            identity.note(folder, [f"arm {name}: {each}" for each in notes])
    for id in whole_models(study):
        more, notes = adapters.history(id.arm, id.seed, [Path(study.arms[id.arm].model or "")])
        log += more
        identity.note(folder, [f"arm {id.arm}: {each}" for each in notes])
    write_jsonl(folder.train_log, log)
    saved = len(saved_checkpoints(folder))
    return {"trainings": len(trainings), "steps": steps, "checkpoints": saved, "layout": layouts}


def generate(study: Study, folder: RunDir, engine: Engine) -> dict[str, Any]:
    """Base, all checkpoints and whole models answer all problems."""
    from kiyas.generate import redecoding
    from kiyas.generate.stage import files_of, generate_part, part_file, plans_file

    study = settled(engine, study, folder)
    former = read_record(folder).former_tuning_seeds
    checkpoints = [id for id in saved_checkpoints(folder) if id.seed not in former]
    adapters = [[*id.fields().values()] for id in (BASE, *checkpoints)]
    float32_modules(engine, folder, study)
    alone = [[*id.fields().values()] for id in whole_models(study)]
    problems = list(each_row(folder.problems))
    parts = parts_of(engine, folder, Stage.GENERATE, study, adapters, alone=alone, problems=len(problems))
    order = {row["id"]: number for number, row in enumerate(problems)}
    answering = len(adapters) + len(alone)
    twice = redecoding.chosen(
        study,
        [BASE, *checkpoints, *whole_models(study)],
        [row["id"] for row in problems if "benchmark" not in row],
    )

    def again(part: Part) -> list[list[Any]]:
        asked = range(*(part.problems or (0, len(problems))))
        return [
            [*who, problem, sample]
            for id, problem, sample in twice
            if (who := [*id.fields().values()]) in part.units and order[problem] in asked
        ]

    total = answering * len(order) * study.generation.num_samples + len(twice)
    with bar("generate", total, "answers") as progress:
        do(
            engine,
            folder,
            study,
            generate_part,
            parts,
            lambda part: (part.units, part.problems, part.number, again(part)),
            lambda part: files_of(part.number, part.units),
            progress,
        )
    layout = [read_sealed(plans_file(folder, part.number)) for part in parts]

    def merged(files: list[Path]) -> list[Completion]:
        found = [Completion.of(row) for file in files if file.exists() for row in read_jsonl(file)]
        return sorted(found, key=lambda c: (not c.adapter.is_base, c.adapter, order[c.problem_id], c.sample))

    made = merged([part_file(folder, part.number) for part in parts])
    write_jsonl(folder.completions, [completion.to_row() for completion in made])
    cut = sum(completion.stop == "length" for completion in made)
    counts = {"adapters": answering, "completions": len(made), "cut_at_max_new_tokens": cut, "layout": layout}
    if redecoded := merged([part_file(folder, part.number, again=True) for part in parts]):
        write_jsonl(folder.redecoded, [completion.to_row() for completion in redecoded])
        files = [plans_file(folder, part.number, again=True) for part in parts]
        counts["redecoded"] = len(redecoded)
        counts["layout_redecoded"] = [read_sealed(file) if file.exists() else [] for file in files]
    return counts


def judge_programs(study: Study, folder: RunDir, engine: Engine) -> dict[str, Any]:
    """Runs every program on every test."""
    total, again = sum(1 for _ in each_row(folder.completions)), len(rows.redecoded(folder))
    with bar("judge", total + again, "programs") as progress:
        verdicts = judge_completions(folder, study.judge, progress, engine.each, deadline.stop_if_near)
        if again:
            judge_redecoded(folder, study.judge, progress, engine.each, deadline.stop_if_near)
        return {"programs": total, "verdicts": verdicts}


def draw_findings(study: Study, folder: RunDir, _: Engine) -> dict[str, Any]:
    """Judgments and losses → findings."""
    write_sealed(folder.findings, analyse(folder.root).to_json())
    return {}


def write_report(study: Study, folder: RunDir, _: Engine) -> dict[str, Any]:
    """Findings → page, figures, tables."""
    findings = Findings.from_json(read_sealed(folder.findings))
    path = report.write(folder.root, findings)
    return {"page": path.name}


STAGES: dict[Stage, Callable[[Study, RunDir, Engine], dict[str, Any]]] = {
    Stage.DATA: prepare_data,
    Stage.TRAIN: train,
    Stage.GENERATE: generate,
    Stage.JUDGE: judge_programs,
    Stage.ANALYSE: draw_findings,
    Stage.REPORT: write_report,
}


# -- what they share ------------------------------------------------------------------------------------------


def saved_checkpoints(folder: RunDir) -> list[AdapterId]:
    """All checkpoints in the run folder, in order."""
    found = folder.checkpoints.glob("**/step-*/adapter_config.json")
    return sorted(AdapterId.parse_folder(str(path.parent.relative_to(folder.checkpoints))) for path in found)


def whole_models(study: Study) -> list[AdapterId]:
    """The arms that are whole fine-tuned models."""
    (seed, *_), given = study.seed_list, study.arms.items()
    return [adapters.whole_model(name, Path(arm.model), seed) for name, arm in given if arm.model is not None]


def _say_what_computes(study: Study, folder: RunDir) -> None:
    """Says at the start, and in the report, what the user may not expect of the device."""
    found = [overlooked_gpu(study.training.device)]
    if study.training.device == "mps":
        found.append("training.device: mps has not been tested: compare a first result with the CPU's")
    for line in filter(None, found):
        tell(line)
        identity.note(folder, [line])
    if study.training.load_in_4bit:  # the report has a remark of its own
        tell("the base is loaded in 4 bits (NF4): another base than the 16-bit one")
