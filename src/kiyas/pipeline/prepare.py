"""Everything that is known of a study's data before anything is trained; what would not be fair is refused."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiyas import judge
from kiyas.data import benchmarks, hub
from kiyas.data.arms import ArmData, arm_counts, derive, drop_too_long, read_arms
from kiyas.data.chat import Chat
from kiyas.interop import adapters
from kiyas.judge.terminal import many
from kiyas.judging.stage import prove, sound
from kiyas.model import families
from kiyas.pipeline import identity
from kiyas.runfolder import peft
from kiyas.runfolder.files import read_json
from kiyas.similarity.contamination import Contamination, contamination
from kiyas.similarity.looks import Prompts, Wanted
from kiyas.study.settings import Study
from kiyas.types import Example, KiyasError
from kiyas.work.progress import counted, long_bar

FLAGS = {
    "other_system": "carry a system message of their own; dataset.system is used in its place",
    "chat_tokens": "already hold the marks of a chat template, and are put into the base's own one",
}
"""What rows do that are used, and deserve a word."""


@dataclass(frozen=True)
class Prepared:
    """Everything that is known of the data before anything is trained."""

    examples: dict[str, list[Example]]
    counts: dict[str, dict[str, Any]]
    problems: list[dict[str, Any]]
    arms: dict[str, ArmData]
    findings: dict[str, list[judge.Finding]]
    """what the problems of each benchmark were found to be wrong in; the refused ones are not in `problems`"""
    solutions: dict[str, dict[str, str]]
    """the benchmarks' own, by benchmark and problem id"""
    chat: Chat
    """the base's"""

    def asked(self, study: Study) -> dict[str, list[dict[str, Any]]]:
        """The problems of each benchmark, by label, the primary one first."""
        return by_benchmark(study, self.problems)

    @property
    def tests(self) -> int:
        return sum(len(row.get("tests", [0])) for row in self.problems)

    def steps(self, study: Study) -> dict[str, int]:
        """Optimizer steps per arm under the study's budget."""
        return budget_steps(study, self.counts)

    def doubts(self, study: Study) -> list[str]:
        """What was found wrong with problems, in sentences."""
        lines = []
        for label, rows in self.asked(study).items():
            refused = sum(finding.refused for finding in self.findings[label])
            lines += [f"{label}: {each}" for each in judge.in_words(self.findings[label], len(rows) + refused)]
        return lines

    def sentences(self) -> list[str]:
        """One line an arm: what is trained on, and what was left out."""
        lines = []
        for name, count in self.counts.items():
            each = count["solutions_per_group"]
            left_out = {
                why.removeprefix("dropped_").replace("_", " "): n for why, n in count.items() if "dropped" in why
            }
            told = ", ".join(f"{n} {why}" for why, n in left_out.items() if n)
            lines.append(
                f"arm {name}: {many(count['train'], 'training sample')} of {many(count['groups'], 'problem')} "
                f"({each:g} solution{'' if each == 1 else 's'} each), {count['validation']} for validation"
                + (f"; {count['from']}" if count.get("derived") else "")
                + (f", {count['draws']} draws" if count.get("draws", 1) > 1 else "")
                + (f"; left out: {told}" if told else "")
            )
        return [*lines, *self.flags()]

    def flags(self) -> list[str]:
        """What is unusual in rows that are used all the same, one line each."""
        lines = []
        for name, arm in self.arms.items():
            for flag, count in arm.flags.items():
                if count:
                    lines.append(f"arm {name}: {many(count, 'row')} {FLAGS[flag]}")
            if arm.unused:
                shown = ", ".join(map(str, arm.unused[:12])) + " and more" * (len(arm.unused) > 12)
                lines.append(f"arm {name}: nothing was read from the columns {shown}")
        return lines


def by_benchmark(study: Study, rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each benchmark, by label, the primary one first."""
    of = {label: label if n else None for n, label in enumerate(study.benchmarks.named)}
    return {label: [row for row in rows if row.get("benchmark") == key] for label, key in of.items()}


def prepare(study: Study, *, weights: bool = True) -> Prepared:
    """Reads, splits, tokenises and counts all data of a study. Writes nothing.

    `weights`: whether models and checkpoints are looked at, too.

    Raises KiyasError for data that is broken or unfit, and for problems that cannot be judged as the study says.
    """
    families.refuse_other(hub.base_folder(study))
    chat = Chat.load(hub.base_folder(study))
    chat.refuse_unfit(study.dataset.system)
    problems, findings = _proven(study, benchmarks.read_all(study.benchmarks))
    arms = read_arms(study, long_bar)
    samples = drop_too_long(arms, chat, study, long_bar)
    derive(arms, samples, chat, study)
    arms = {name: arms[name] for name in study.trained}  # in the study's order
    counts = {name: arm_counts(arm, samples[name]) for name, arm in arms.items()}
    refuse_unfit(study, counts)
    _refuse_other_seeds(study)
    if weights:
        _refuse_unreadable(study)
    solutions = {label: benchmarks.solutions(benchmark) for label, benchmark in study.benchmarks.named.items()}
    examples = {name: arm.examples for name, arm in arms.items()}
    return Prepared(examples, counts, problems, arms, findings, solutions, chat)


def _proven(study: Study, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, list[judge.Finding]]]:
    """The problems that prove themselves, without their own solutions, and what is wrong with the others."""
    good: set[str] = set()
    findings = {}
    for label, asked in by_benchmark(study, rows).items():
        benchmark, own = study.benchmarks.named[label], [judge.problem_from_row(row, "kiyas") for row in asked]
        with counted("prove", "programs") as progress:
            findings[label] = prove(own, study.judge, progress)
        good |= sound(own, findings[label], benchmark.dataset, listed=benchmark.ids is not None)
    kept = [{key: value for key, value in row.items() if key != "solutions"} for row in rows if row["id"] in good]
    return kept, findings


def refuse_unfit(study: Study, counts: dict[str, dict[str, Any]]) -> None:
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
    every = study.training.save_steps
    saves = max((math.ceil(steps / every) for steps in budget_steps(study, counts).values()), default=0)
    if saves > MOST_CHECKPOINTS:
        raise KiyasError(
            f"training.save_steps: {every} saves {saves:,} checkpoints of each training, and all of them answer",
            f"raise training.save_steps: at most {MOST_CHECKPOINTS:,} checkpoints are possible",
        )
    most = longest_text(study)
    longest = max((count["max_tokens"] for count in counts.values()), default=0)
    if most and longest > most:
        raise KiyasError(
            f"training.max_length: a sample has {longest} tokens, but the base model's limit is {most}",
            f"set training.max_length to {most} or less",
        )


def longest_text(study: Study) -> int | None:
    """The base's limit in tokens, as its configuration says; None where it does not."""
    config = read_json(hub.base_folder(study) / "config.json")
    most: int | None = config.get("max_position_embeddings") or config.get("n_positions")
    return most


def given_checkpoints(study: Study) -> dict[str, list[adapters.Checkpoint]]:
    """The checkpoints that were trained elsewhere, by arm."""
    folders = {name: Path(arm.checkpoints) for name, arm in study.arms.items() if arm.checkpoints is not None}
    return {name: adapters.find(folder)[0] for name, folder in folders.items()}


def _refuse_other_seeds(study: Study) -> None:
    """Checkpoints that were trained elsewhere must be of the seeds that the study names."""
    for name, checkpoints in given_checkpoints(study).items():
        there = sorted({checkpoint.seed for checkpoint in checkpoints})
        if there != sorted(study.seed_list):
            raise KiyasError(
                f"arm {name}: {study.arms[name].checkpoints} holds checkpoints of seed {', '.join(map(str, there))}; "
                f"the study names seed {', '.join(map(str, study.seed_list))}",
                f"write seeds: {there}" if len(there) > 1 or there[0] else "write seeds: 1",
            )


def _refuse_unreadable(study: Study) -> None:
    """Checkpoints that were trained elsewhere must be readable, and of this base; whole models must be whole."""
    given = [checkpoint.path for checkpoints in given_checkpoints(study).values() for checkpoint in checkpoints]
    if given:
        from kiyas.model.checkpoints import refuse_unreadable

        refuse_unreadable(given, hub.base_folder(study), study.target_modules)
    _refuse_not_whole("model_name_or_path", hub.base_folder(study))
    for name, arm in study.arms.items():
        if arm.model is not None:
            from kiyas.model.meter import empty_model

            _refuse_not_whole(f"arm {name}", Path(arm.model))
            empty_model(Path(arm.model))


def _refuse_not_whole(what: str, folder: Path) -> None:
    """Raises KiyasError for a folder that is not a whole model that can answer."""
    from kiyas.model.meter import read_config

    if (folder / adapters.CONFIG).exists():
        raise KiyasError(
            f"{what}: {folder} is an adapter, not a whole model", "an adapter is an arm: {checkpoints: FOLDER}"
        )
    if not hub.is_complete(folder):
        raise KiyasError(f"{what}: {folder} lacks weights of its model", "save or download it again")
    for path in identity.weights_in(folder):
        peft.refuse_not_weights(path)
    identity.shapes_in(folder)
    read_config(folder)
    Chat.load(folder)


def _refuse_unequal(study: Study, counts: dict[str, dict[str, Any]]) -> None:
    """Arms must spend equally, in the unit of their budget, unless the study accepts that they do not."""
    budgets = {arm: study.recipe(arm).budget.completion_tokens for arm in counts}
    steps = budget_steps(study, counts)
    unit, spent = "completion tokens", budgets
    if None in budgets.values():
        unit, spent = "samples", {arm: steps[arm] * study.recipe(arm).effective_batch_size for arm in counts}
    known = [value for value in spent.values() if value is not None]
    if known and max(known) > 1.01 * min(known) and "unequal_budgets" not in study.compare.accept:
        told = ", ".join(f"{arm} {value:,} {unit}" for arm, value in spent.items())
        raise KiyasError(
            f"the arms may not spend equal budgets: {told}; a difference could be due to that alone",
            "give every arm the same budget, or accept it explicitly: compare: {accept: [unequal_budgets]}",
        )


EXPECTED_WITHIN = 0.05
MOST_CHECKPOINTS = 10_000


@dataclass(frozen=True)
class Unexpected:
    """A number of an arm's training rows that is not what its `expect` says."""

    arm: str
    key: str
    wanted: float
    found: float


def unexpected(study: Study, counts: dict[str, dict[str, Any]]) -> list[Unexpected]:
    """What the arms are expected to hold against what they hold."""
    return [
        Unexpected(arm, key, wanted, found)
        for arm, count in counts.items()
        for key, found in (("problems", count["groups"]), ("solutions", count["solutions_per_group"]))
        if (wanted := getattr(study.arms[arm].expect, key, None)) is not None
        and abs(found - wanted) > EXPECTED_WITHIN * wanted
    ]


def refuse_unexpected(study: Study, counts: dict[str, dict[str, Any]]) -> None:
    """Raises KiyasError where an arm is not what the study expects."""
    wrong = [
        f"arm {each.arm}: expect.{each.key} is {each.wanted:g}, its training rows have {each.found:g}"
        for each in unexpected(study, counts)
    ]
    if wrong:
        told = "\n  ".join(["the data is not what the study file expects:", *wrong])
        raise KiyasError(told, "are two files swapped?")


def wanted(study: Study, prepared: Prepared) -> Wanted:
    """What is looked for in the training data: the benchmarks' statements and solutions."""
    asked = prepared.asked(study)
    solutions = {id: text for label in asked for id, text in prepared.solutions[label].items()}
    return Wanted.of([[row["statement"] for row in rows] for rows in asked.values()], solutions)


def contaminated_by(
    study: Study, prepared: Prepared, prompts: Prompts, solved: Mapping[Hashable, Sequence[str]]
) -> list[Contamination]:
    """Every benchmark against the training rows of every arm with data of its own.

    `prompts`, `solved` (completion → problems whose solution is in it): what was seen of these rows and others.
    """
    own = {name: arm.split("train") for name, arm in prepared.arms.items() if not arm.derived}
    return [
        each
        for label, rows in prepared.asked(study).items()
        for each in contamination(label, rows, prepared.solutions[label], own, prompts, solved)
    ]


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
