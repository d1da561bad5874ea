"""`kiyas check`: know before you spend. Measures data, leaks, chat, costs and what the design can detect.

Writes nothing.

    checked = check(study)      # facts and remarks, frozen
    page(checked)               # one page of text (page.py)
    checked.to_json()           # every fact

The words are in page.py, and only there. See docs/check.md for every threshold and its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from kiyas.analyse import provenance
from kiyas.analyse.checklist import FEW_VALIDATION
from kiyas.analyse.findings import Level, Remark
from kiyas.check import chat_template, design, leaks, remarks
from kiyas.check.cards import Card
from kiyas.check.sources import same_sources
from kiyas.data import hub
from kiyas.pipeline import identity, measure, mistakes
from kiyas.pipeline.prepare import EXPECTED_WITHIN, Prepared, prepare, unexpected
from kiyas.similarity import near_duplicates
from kiyas.similarity.contamination import Contamination
from kiyas.similarity.shared_rows import SharedRows
from kiyas.stats import planning
from kiyas.study.settings import Study
from kiyas.types import BASE_ARM
from kiyas.work.progress import tell

if TYPE_CHECKING:
    from kiyas.check.cluster_costs import ClusterCosts
    from kiyas.check.costs import Costs

__all__ = ["Checked", "Level", "Remark", "check"]


@dataclass(frozen=True)
class Spent:
    """What one training of an arm takes."""

    steps: int
    examples: int
    epochs: float
    completion_tokens: int


@dataclass(frozen=True)
class Checked:
    """Everything that was measured, and what of it deserves a word."""

    name: str
    base: str
    parameters: int | None
    seeds: int
    samples: int
    matters: float
    """the study's equivalence margin: a difference in pass@1 (0 to 1)"""
    group_by: str
    max_length: int
    arms: dict[str, measure.ArmFacts]
    """those that are trained here"""
    given: tuple[str, ...]
    """arms that were trained elsewhere: checkpoints and whole models"""
    spent: dict[str, Spent]
    shown: dict[str, str]
    """one training row of each arm with data of its own, as the model sees it: what it learns is between >>> and <<<"""
    own_overlaps: list[leaks.Overlap]
    """between the sources' own splits"""
    left_overlaps: list[leaks.Overlap]
    """between what is trained on and what is held out"""
    shared: list[SharedRows]
    """training rows that two arms share"""
    benchmarks: dict[str, int]
    """problems of each benchmark"""
    groups: int | None
    """how many groups (contests, templates) the primary benchmark's problems are in; None where each is alone"""
    contamination: list[Contamination]
    chat: chat_template.ChatFacts
    costs: Costs | None
    """None: left out, or asked of a cluster"""
    cluster: ClusterCosts | None
    """None: not asked of a cluster"""
    contrasts: int
    """how many the study declares: the primary one and `compare.contrasts`"""
    design: list[design.Cell]
    """the study's own design first"""
    remarks: list[Remark]

    def to_json(self) -> dict[str, Any]:
        """As plain lists and dictionaries, with the thresholds that the remarks were made by."""
        return {
            **asdict(self),
            "thresholds": {
                "near_jaccard": near_duplicates.NEAR,
                "shingle_tokens": near_duplicates.SHINGLE,
                "ngram_words": near_duplicates.NGRAM,
                "ngram_covered": near_duplicates.COVERED,
                "ngram_common": near_duplicates.COMMON,
                "read_once_epochs": remarks.READ_ONCE,
                "many_epochs": remarks.MANY_EPOCHS,
                "few_points": remarks.FEW_POINTS,
                "few_validation_rows": FEW_VALIDATION,
                "usual_rates": mistakes.USUAL_RATES,
                "possible_rates": mistakes.POSSIBLE_RATES,
                "few_rows": remarks.FEW,
                "many_too_long": remarks.MANY_TOO_LONG,
                "expected_within": EXPECTED_WITHIN,
                "tokens_differ": remarks.TOKENS_DIFFER,
                "style_differs": remarks.STYLE_DIFFERS,
                "many_shared": provenance.MANY_SHARED,
                "nearly_all_shared": provenance.NEARLY_ALL,
            },
            "assumed_variance": {**asdict(planning.ASSUMED), "answer_share": planning.ANSWER_SHARE},
        }


def check(
    study: Study, card: Card | None = None, *, fast: bool = False, cluster: Mapping[Card, int] | None = None
) -> Checked:
    """Measures a study; with a card, memory and time are its. Raises KiyasError for one that cannot run.

    `fast`: without costs. `cluster`: costs on so many cards of each kind. Both do without the base's weights, which are
    neither read nor fetched.
    """
    weights = not fast and cluster is None
    identity.refuse_missing_packages(study)
    base = study.model_name_or_path
    if not weights:
        study = hub.without_weights(study)
    size = identity.parameters(study)
    tell("check: reading, splitting and tokenising the data")
    prepared = prepare(study, weights=weights)
    steps = prepared.steps(study)
    arms, own = prepared.arms, {name: arm for name, arm in prepared.arms.items() if not arm.derived}
    tell("check: comparing rows, splits and benchmarks")
    measured = measure.measure(study, prepared)
    facts = measured.arms
    overlaps = [each for name, arm in own.items() for each in leaks.own_overlaps(name, arm, measured.cluster)]
    left = leaks.left_overlaps(own, measured.cluster)
    by_benchmark = prepared.asked(study)
    asked = {label: len(rows) for label, rows in by_benchmark.items()}
    told = chat_template.chat_facts(prepared.chat, hub.base_folder(study), study.dataset.system)
    seeds, contrasts = len(study.seed_list), _declared(study)
    own_problems, *_ = asked.values()
    cells = design.table(seeds, own_problems, study.generation.num_samples, contrasts)
    cost = on_cluster = None
    if cluster is not None:
        on_cluster = _on_cluster(study, prepared, steps, cluster)
    elif not fast:
        cost, cells = _costs(study, prepared, steps, card, cells)
    spent = {name: _spent(study, name, steps[name], prepared.counts[name]) for name in arms}
    return Checked(
        name=study.name,
        base=base,
        parameters=size,
        seeds=seeds,
        samples=study.generation.num_samples,
        matters=study.compare.matters,
        group_by=study.dataset.group_by or "",
        max_length=study.training.max_length,
        arms=facts,
        given=tuple(name for name in study.arms if name not in study.trained),
        spent=spent,
        shown={name: _shown(measure.sample(study, prepared, name)) for name in own},
        own_overlaps=overlaps,
        left_overlaps=left,
        shared=measured.shared,
        benchmarks=asked,
        groups=_groups(next(iter(by_benchmark.values()))),
        contamination=measured.contamination,
        chat=told,
        costs=cost,
        cluster=on_cluster,
        contrasts=contrasts,
        design=cells,
        remarks=remarks.worst_first(
            [
                *mistakes.rate_remarks(study, mistakes.hidden_size(study)),
                *remarks.budget_remarks(arms=facts, epochs={name: each.epochs for name, each in spent.items()}),
                *remarks.curve_remarks(study, facts, steps),
                *remarks.arm_remarks(study, facts, steps, unexpected(study, prepared.counts)),
                *remarks.shared_remarks(study, measured.shared, same_sources(study)),
                *remarks.leak_remarks(study, overlaps, left, measured.contamination, facts),
                *remarks.problem_remarks(prepared.doubts(study)),
                *remarks.chat_remarks(told),
                *remarks.judge_remarks(study, prepared.problems),
                *remarks.design_remarks(study),
                *(remarks.cost_remarks(cost) if cost is not None else ()),
                *(remarks.cluster_remarks(on_cluster) if on_cluster is not None else ()),
            ]
        ),
    )


def _costs(
    study: Study, prepared: Prepared, steps: dict[str, int], card: Card | None, cells: list[design.Cell]
) -> tuple[Costs, list[design.Cell]]:
    """What the study costs, and each design with its hours."""
    from kiyas.check import costs

    tell(f"check: {'computing memory and time' if card else 'measuring one layer of the base to estimate costs'}")
    work = costs.work_of(study, prepared, steps, prepared.chat)
    cost = costs.estimate(study, work, prepared.problems, prepared.chat, card)
    own, *_ = cells
    beside = len(prepared.problems) - own.problems

    def hours(cell: design.Cell) -> float:
        return costs.worth(cost, work, cell.seeds, own.seeds, cell.problems + beside, cell.samples) / 3600

    return cost, [replace(cell, hours=hours(cell)) for cell in cells]


def _on_cluster(study: Study, prepared: Prepared, steps: dict[str, int], cluster: Mapping[Card, int]) -> ClusterCosts:
    """What the study costs there."""
    from kiyas.check import cluster_costs, costs

    tell("check: computing memory and time of the cluster")
    work = costs.work_of(study, prepared, steps, prepared.chat)
    return cluster_costs.estimate(study, work, prepared.problems, prepared.chat, cluster)


def _groups(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """A problem without a group is alone."""
    names = {row.get("group") or (row["id"],) for row in rows}
    return len(names) if len(names) < len(rows) else None


def _declared(study: Study) -> int:
    """How many contrasts share the chance of a false claim (analyse.decisions)."""
    arms = list(study.arms)
    primary = study.compare.primary or (arms[:2] if len(arms) > 1 else [BASE_ARM, *arms])
    return len({frozenset(pair) for pair in (primary, *study.compare.contrasts)})


SHOWN_CHARACTERS = 200


def _shown(sample: measure.Sample) -> str:
    short = sample.cut(SHOWN_CHARACTERS)
    return f"{short.prompt}>>>{short.completion}<<<"


def _spent(study: Study, arm: str, steps: int, count: dict[str, Any]) -> Spent:
    examples = steps * study.recipe(arm).effective_batch_size
    tokens = round(count["completion_tokens"] / count["train"] * examples)
    return Spent(steps, examples, examples / count["train"], tokens)
