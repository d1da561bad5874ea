"""data → train → generate → judge → analyse → report, on one screen.

Every stage reads files, writes files and declares itself finished by a manifest, last. Running again does what is
missing and nothing else.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiyas import benchmarks, hub, identity, judging, report
from kiyas.analyse import Findings, analyse
from kiyas.interop import adapters
from kiyas.progress import bar, tell
from kiyas.rundir import RunDir, Stage, read_json, read_jsonl, write_json, write_jsonl
from kiyas.study import Study
from kiyas.types import BASE, AdapterId, Completion, Example, KiyasError
from kiyas.workers import default_workers, run_parts, warm

if TYPE_CHECKING:
    from kiyas.contamination import Contamination
    from kiyas.data import ArmData


def run(
    study: Study,
    folder: RunDir,
    *,
    text: str = "",
    overrides: list[str] | None = None,
    until: Stage = Stage.REPORT,
    redo: Stage | None = None,
) -> None:
    """Runs a study, or goes on with it. `text` is the study file as given, for the record.

    Raises KiyasError when the folder holds another study's results or is in use.
    """
    with folder.lock():
        study = identity.pinned(study, folder)
        tier = identity.open_run(study, folder, text, overrides or [], redo)
        if redo is not None:
            folder.drop(redo)
        tell(
            f"{study.name}: {', '.join(study.arms)} × {len(study.seed_list)} seeds, into {folder.root}; "
            f"programs run in {tier} isolation"
        )
        if _workers(study, 2) > 1 and folder.manifest(Stage.GENERATE) is None and until is not Stage.DATA:
            warm()
        for stage, work in STAGES.items():
            inputs = identity.inputs(stage, folder, study)
            manifest = folder.manifest(stage)
            if manifest is None or manifest["inputs"] != inputs:
                identity.refuse_stale(stage, folder, manifest, inputs)
                started = time.monotonic()
                counts = work(study, folder)
                folder.finish(stage, identity.inputs(stage, folder, study), counts, time.monotonic() - started)
            if stage == until:
                break


# -- the stages, in order -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """Everything that is known of the data before anything is trained."""

    examples: dict[str, list[Example]]
    counts: dict[str, dict[str, Any]]
    problems: list[dict[str, Any]]
    arms: dict[str, ArmData]

    def asked(self, study: Study) -> dict[str, list[dict[str, Any]]]:
        """The problems of each benchmark, by label, the primary one first."""
        of = {label: label if n else None for n, label in enumerate(study.benchmarks.named)}
        return {label: [row for row in self.problems if row.get("benchmark") == key] for label, key in of.items()}

    @property
    def tests(self) -> int:
        return sum(len(row.get("tests", [0])) for row in self.problems)

    def steps(self, study: Study) -> dict[str, int]:
        """Optimizer steps per arm under the study's budget."""
        return budget_steps(study, self.counts)

    def sentences(self) -> list[str]:
        """One line an arm: what is trained on, and what was left out."""
        lines = []
        for name, count in self.counts.items():
            left_out = {
                why.removeprefix("dropped_").replace("_", " "): n for why, n in count.items() if "dropped" in why
            }
            told = ", ".join(f"{n} {why}" for why, n in left_out.items() if n)
            lines.append(
                f"arm {name}: {count['train']} training samples of {count['groups']} problems "
                f"({count['solutions_per_group']:g} solutions each), {count['validation']} for validation"
                + (f"; {count['from']}" if count.get("derived") else "")
                + (f", {count['draws']} draws" if count.get("draws", 1) > 1 else "")
                + (f"; left out: {told}" if told else "")
            )
        return lines


def prepare(study: Study) -> Prepared:
    """Reads, splits, tokenises and counts all data of a study. Writes nothing."""
    from kiyas import data
    from kiyas.chat import Chat

    problems = benchmarks.read_all(study.benchmarks)
    arms, chat = data.read_arms(study), Chat.load(hub.base_folder(study))
    samples = data.drop_too_long(arms, chat, study)
    data.derive(arms, samples, chat, study)
    arms = {name: arms[name] for name in study.trained}  # in the study's order
    counts = {name: data.counts(arm, samples[name]) for name, arm in arms.items()}
    _refuse_unfit(study, counts)
    _refuse_other_seeds(study)
    return Prepared({name: arm.examples for name, arm in arms.items()}, counts, problems, arms)


def _refuse_unfit(study: Study, counts: dict[str, dict[str, Any]]) -> None:
    """What the settings ask of the data and the base, and they cannot give; and what would not be fair."""
    blind = [arm for arm, count in counts.items() if not count["validation"]]
    wants = {
        "training.patience": study.training.patience,
        "compare.select: validation": study.compare.select == "validation",
        "a grid of learning rates": len(study.variants) > 1,
    }
    if blind and any(wants.values()):
        key = next(key for key, wanted in wants.items() if wanted)
        raise KiyasError(f"{key} needs validation rows, and there are none in {', '.join(blind)}")
    _refuse_unequal(study, counts)
    config = read_json(hub.base_folder(study) / "config.json")
    most = config.get("max_position_embeddings") or config.get("n_positions")
    longest = max((count["max_tokens"] for count in counts.values()), default=0)
    if most and longest > most:
        raise KiyasError(
            f"training.max_length: a sample has {longest} tokens, but the base model ends at {most}",
            f"set training.max_length to {most} or less",
        )


def _refuse_other_seeds(study: Study) -> None:
    """Checkpoints that were trained elsewhere must be of the seeds that the study names."""
    for name, arm in study.arms.items():
        if arm.checkpoints is not None:
            there = sorted({checkpoint.seed for checkpoint in adapters.find(Path(arm.checkpoints))[0]})
            if there != sorted(study.seed_list):
                raise KiyasError(
                    f"arm {name}: {arm.checkpoints} holds checkpoints of seed {', '.join(map(str, there))}; the study "
                    f"names seed {', '.join(map(str, study.seed_list))}",
                    f"write seeds: {there}" if len(there) > 1 or there[0] else "write seeds: 1",
                )


def _refuse_unequal(study: Study, counts: dict[str, dict[str, Any]]) -> None:
    """Arms must spend alike, in the unit of their budget, unless the study accepts that they do not."""
    budgets = {arm: study.recipe(arm).budget.completion_tokens for arm in counts}
    steps = budget_steps(study, counts)
    unit, spent = "completion tokens", budgets
    if None in budgets.values():
        unit, spent = "samples", {arm: steps[arm] * study.recipe(arm).effective_batch_size for arm in counts}
    known = [value for value in spent.values() if value is not None]
    if known and max(known) > 1.01 * min(known) and "unequal_budgets" not in study.compare.accept:
        told = ", ".join(f"{arm} {value:,} {unit}" for arm, value in spent.items())
        raise KiyasError(
            f"the arms may not spend alike: {told}; a difference could be due to that alone",
            "give every arm the same budget, or accept it by name: compare: {accept: [unequal_budgets]}",
        )


def _refuse_unexpected(study: Study, counts: dict[str, dict[str, Any]]) -> None:
    """What an arm is believed to hold (`expect`) against what it holds."""
    wrong = []
    for arm, count in counts.items():
        expect = study.arms[arm].expect
        for key, there in (("problems", count["groups"]), ("solutions", count["solutions_per_group"])):
            wanted = getattr(expect, key, None)
            if wanted is not None and abs(there - wanted) > 0.05 * wanted:
                wrong.append(f"arm {arm}: expect.{key} is {wanted:g}, its training rows have {there:g}")
    if wrong:
        raise KiyasError(
            "\n  ".join(["the data is not what the study file expects:", *wrong]), "are two files swapped?"
        )


def contaminated_by(study: Study, prepared: Prepared) -> list[Contamination]:
    """Every benchmark against the training rows of every arm with data of its own."""
    from kiyas.contamination import contamination

    own = {name: arm.split("train") for name, arm in prepared.arms.items() if not arm.derived}
    return [
        each
        for label, rows in prepared.asked(study).items()
        for each in contamination(label, rows, benchmarks.solutions(study.benchmarks.named[label]), own)
    ]


def prepare_data(study: Study, folder: RunDir) -> dict[str, Any]:
    """Arms → data/ARM.jsonl; benchmark → data/problems.jsonl."""
    prepared = prepare(study)
    _refuse_unexpected(study, prepared.counts)
    for name, examples in prepared.examples.items():
        write_jsonl(folder.arm_data(name), [asdict(example) for example in examples])
    write_jsonl(folder.problems, prepared.problems)
    found = contaminated_by(study, prepared)
    write_json(folder.contamination, [asdict(each) for each in found])
    for line in prepared.sentences():
        tell(f"data: {line}")
    for each in found:
        if each.found:
            tell(f"data: {len(each.found)} problems of {each.benchmark} stand in the training data of {each.arm}")
    return {"arms": prepared.counts, "problems": len(prepared.problems), "tests": prepared.tests}


def train(study: Study, folder: RunDir) -> dict[str, Any]:
    """All trainings of all arms, stacked; log and checkpoints."""
    from kiyas.train import merge_logs, saved_step, train_part

    manifest = folder.manifest(Stage.DATA)
    assert manifest is not None
    steps = budget_steps(study, manifest["counts"]["arms"])
    # Seeds together: the arms of one seed see the same order of samples, and stack best.
    trainings: list[list[Any]] = [
        [arm, variant, seed]
        for seed in (*study.seed_list, *study.tuning_seed_list)
        for variant in study.variants
        for arm in study.trained
    ]
    parts = _layout(folder, Stage.TRAIN, study, trainings) if trainings else []
    total = sum(steps[arm] for arm, _, _ in trainings)
    done = sum(min(saved_step(folder, part), steps[arm]) for part, share in enumerate(parts) for arm, _, _ in share)
    with bar("train", total, "adapter-steps", done) as progress:
        study_json = study.model_dump(mode="json")
        run_parts(
            train_part,
            [(str(folder.root), study_json, share, steps, part) for part, share in enumerate(parts)],
            progress,
            study.training.workers,
        )
    rows = merge_logs(folder, len(parts))
    for name, arm in study.arms.items():
        if arm.checkpoints is not None:
            more, notes = adapters.adopt(name, Path(arm.checkpoints), folder, study.model_name_or_path)
            rows += more
            identity.note(folder, [f"arm {name}: {each}" for each in notes])
    write_jsonl(folder.train_log, rows)
    shutil.rmtree(folder.train_state, ignore_errors=True)
    return {"trainings": len(trainings), "steps": steps, "checkpoints": len(saved_checkpoints(folder))}


def generate(study: Study, folder: RunDir) -> dict[str, Any]:
    """Base and all checkpoints answer all problems."""
    from kiyas.generate import generate_part, part_file

    checkpoints = [id for id in saved_checkpoints(folder) if id.seed not in study.tuning_seed_list]
    adapters = [[*id.fields().values()] for id in (BASE, *checkpoints)]
    parts = _layout(folder, Stage.GENERATE, study, adapters)
    problems = len(read_jsonl(folder.problems))
    with bar("generate", len(adapters) * problems * study.generation.num_samples, "answers") as progress:
        study_json = study.model_dump(mode="json")
        run_parts(
            generate_part,
            [(str(folder.root), study_json, share, part) for part, share in enumerate(parts)],
            progress,
            study.training.workers,
        )
    made = [Completion.of(row) for part in range(len(parts)) for row in read_jsonl(part_file(folder, part))]
    order = {row["id"]: number for number, row in enumerate(read_jsonl(folder.problems))}
    made.sort(key=lambda c: (not c.adapter.is_base, c.adapter, order[c.problem_id], c.sample))
    write_jsonl(folder.completions, [completion.to_row() for completion in made])
    shutil.rmtree(folder.stage(Stage.GENERATE) / "state")
    cut = sum(completion.stop == "length" for completion in made)
    return {"adapters": len(adapters), "completions": len(made), "cut_at_max_new_tokens": cut}


def judge_programs(study: Study, folder: RunDir) -> dict[str, Any]:
    """Runs every program on every test."""
    total = len(read_jsonl(folder.completions))
    with bar("judge", total, "programs") as progress:
        return {"programs": total, "verdicts": judging.judge_completions(folder, study.judge, progress)}


def draw_findings(study: Study, folder: RunDir) -> dict[str, Any]:
    """Judgments and losses → findings."""
    write_json(folder.findings, analyse(folder.root).to_json())
    return {}


def write_report(study: Study, folder: RunDir) -> dict[str, Any]:
    """Findings → page, figures, tables."""
    findings = Findings.from_json(read_json(folder.findings))
    path = report.write(folder.root, findings, language=study.report.language)
    return {"page": path.name}


STAGES: dict[Stage, Callable[[Study, RunDir], dict[str, Any]]] = {
    Stage.DATA: prepare_data,
    Stage.TRAIN: train,
    Stage.GENERATE: generate,
    Stage.JUDGE: judge_programs,
    Stage.ANALYSE: draw_findings,
    Stage.REPORT: write_report,
}


def budget_steps(study: Study, counts: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Optimizer steps per arm under its budget. The same for all arms, except with completion tokens.

    counts: per arm the `train` samples and their `completion_tokens`, as in the data manifest.
    """
    # A derived arm is small on purpose: it is given the others' steps, and repeats its rows.
    smallest = min((count["train"] for count in counts.values() if not count.get("derived")), default=0)
    found = {}
    for arm, count in counts.items():
        recipe = study.recipe(arm)
        budget, batch = recipe.budget, recipe.effective_batch_size
        if budget.completion_tokens is not None:
            steps = round(budget.completion_tokens / (count["completion_tokens"] / count["train"] * batch))
        elif budget.steps is not None:
            steps = budget.steps
        elif budget.examples is not None:
            steps = math.ceil(budget.examples / batch)
        else:
            assert budget.epochs is not None
            steps = math.ceil(budget.epochs * smallest / batch)
        found[arm] = max(1, steps)
    return found


# -- what they share ------------------------------------------------------------------------------------------


def saved_checkpoints(folder: RunDir) -> list[AdapterId]:
    """All checkpoints in the run folder, in order."""
    found = folder.checkpoints.glob("**/step-*/adapter_config.json")
    return sorted(AdapterId.parse_folder(str(path.parent.relative_to(folder.checkpoints))) for path in found)


def _layout(folder: RunDir, stage: Stage, study: Study, units: list[list[Any]]) -> list[list[list[Any]]]:
    """How units are shared out to workers: decided once and kept, since rounding depends on it."""
    path = folder.stage(stage) / "state" / "layout.json"
    if not path.exists():
        workers = _workers(study, len(units))
        size = -(-len(units) // min(workers, len(units)))
        write_json(path, [units[start : start + size] for start in range(0, len(units), size)])
    parts: list[list[list[Any]]] = read_json(path)
    return parts


def _workers(study: Study, units: int) -> int:
    size = sum(path.stat().st_size for path in identity.model_files(study))
    return study.training.workers or default_workers(study.training.device, size, units)
