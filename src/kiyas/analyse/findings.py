"""What an analysis found: frozen, free of words, complete enough to draw the report's tables and charts.

Sentences are made from it by `kiyas.report` in the reader's language; a `Remark` is a code and its values.
Differences are always *b minus a*. Rates are shares (0.317), not percent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kiyas.analyse.encoding import decode, encode
from kiyas.similarity.shared_rows import SharedRows as SharedRows
from kiyas.stats.inference import BestOf, Interval
from kiyas.stats.random_effects import Components
from kiyas.study.settings import Select
from kiyas.types import AdapterId

FORMAT = 5


class Decision(StrEnum):
    """What the numbers support about arm b against arm a."""

    MORE = "more"
    LESS = "less"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"
    DEPENDS = "depends"
    """on the learning rate"""
    CONTAMINATED = "contaminated"
    """depends on the problems that are in training data"""
    MISSING = "owed"
    """verdicts are missing; files have said `owed` since the first version"""


class Level(StrEnum):
    """How much a remark weighs, the lightest first."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"


class Failure(StrEnum):
    """What became of an answer that is not right. An answer is of the first class that fits, in this order."""

    RUNAWAY = "runaway"
    NO_CODE = "no_code"
    SYNTAX = "syntax"
    CRASH = "crash"
    OUTPUT = "output"
    SLOW = "slow"
    MEMORY = "memory"
    FORMAT = "format"
    WRONG = "wrong"
    """wrong, and how many tests passed was not recorded"""
    SOME = "some"
    EVERYWHERE = "everywhere"


class Sharing(StrEnum):
    """Who fails a problem: solved means at least half of the answers right, of each seed's chosen checkpoint."""

    BOTH = "both"
    ONLY_A = "only_a"
    ONLY_B = "only_b"
    MIXED = "mixed"
    NEITHER = "neither"


@dataclass(frozen=True)
class Remark:
    """One line of the checklist: `code` names the phrase, `values` fill it."""

    code: str
    level: Level
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def by_weight(remarks: Iterable[Remark]) -> tuple[Remark, ...]:
    """Warnings first, then notes, then what is fine; else in their order."""
    return tuple(sorted(remarks, key=lambda remark: list(Level).index(remark.level), reverse=True))


@dataclass(frozen=True)
class Training:
    """One (arm, variant, seed)."""

    arm: str
    variant: str
    seed: int


@dataclass(frozen=True)
class LossPoint:
    step: int
    loss: float
    epoch: float | None = None


@dataclass(frozen=True)
class Reading:
    """What a loss curve says, computed; definitions in docs/statistics.md. None where it cannot be known."""

    lowest_step: int | None
    lowest: float | None
    last_step: int | None
    last: float | None
    overfits: bool | None
    """validation loss ends clearly above its lowest stretch, `lowest_step`: the onset of overfitting"""
    rise: float | None
    """by how much: means of two pieces of the curve"""
    gap: float | None
    slow_step: int | None
    of: str
    far_below: bool = False
    """validation loss ends further below training loss than dropout and averages usually explain"""


@dataclass(frozen=True)
class Curve:
    """The losses of one training: `validation` on its own arm's set, `others` on further sets."""

    training: Training
    train: tuple[LossPoint, ...]
    validation: tuple[LossPoint, ...]
    others: Mapping[str, tuple[LossPoint, ...]]
    reading: Reading | None


@dataclass(frozen=True)
class LossCell:
    """Last losses of one arm's trainings on one validation set: mean and range over the seeds."""

    arm: str
    on: str
    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Score:
    """One checkpoint on the benchmark. `rate` is the declared metric; `solved` sums it over the problems."""

    adapter: AdapterId
    problems: int
    samples: int
    solved: float
    rate: float
    interval: Interval
    tests_passed: float | None
    at_k: Mapping[str, float]
    verdicts: Mapping[str, int]
    missing: int
    partial: tuple[str, ...]
    same_as_base: float | None = None
    tests_passed_most: float | None = None
    """as `tests_passed`, if all tests had passed that were not run after a time-out"""


@dataclass(frozen=True)
class Choice:
    """Which checkpoint represents a training, and what the other rules would have taken."""

    training: Training
    chosen: AdapterId
    last: AdapterId
    best: AdapterId
    lowest_validation: AdapterId | None
    best_of: BestOf


@dataclass(frozen=True)
class ArmResult:
    """An arm by its chosen checkpoints: each seed, and the mean over seeds with its interval."""

    arm: str
    adapters: tuple[AdapterId, ...]
    mean: float
    interval: Interval
    solved: float
    missing: int


@dataclass(frozen=True)
class Pair:
    """Two given checkpoints, problem by problem. Says nothing about other trainings of the same data."""

    a: AdapterId
    b: AdapterId
    both: float
    only_a: float
    only_b: float
    neither: float
    difference: float
    interval: Interval
    exact_p: float | None
    mid_p: float
    missing: int


@dataclass(frozen=True)
class Needed:
    """What would decide an undecided contrast: a difference, and the designs that would see it."""

    difference: float
    problems: int | None
    seeds: int | None
    now_sees: float | None
    both: tuple[int, ...] = ()
    """(seeds, problems) where neither alone would do"""
    problems_hours: float | None = None
    seeds_hours: float | None = None
    both_hours: float | None = None
    """what such a study would take on the machine of this one; None where this one's times are not known"""
    seed_sd: float | None = None
    """SD between seeds that more seeds are counted on to have; None with one seed"""
    seed_sd_most: float | None = None
    """the most that these seeds allow, on which more problems alone must count; None where that is no more"""


@dataclass(frozen=True)
class Contrast:
    """Arm b against arm a. `method`: "two-way" (seeds), "pair" (two adapters) or "none" (missing).

    `declared`: before the run, by the study; `holm` is then the p-value corrected for all that were declared, where
    they are several. The decision of a declared contrast uses it.
    """

    a: str
    b: str
    primary: bool
    method: str
    seeds: int
    problems: int
    difference: float
    interval: Interval
    interval90: Interval
    bootstrap: Interval | None
    p: float
    decision: Decision
    margin: float | None
    pairs: tuple[Pair, ...]
    components: Components | None
    needed: Needed | None
    missing: int
    declared: bool = False
    holm: float | None = None
    family: int | None = None
    """how many declared contrasts share the chance of a false claim, where they are several"""
    informative: int | None = None
    """problems that some of the compared answers solve and others do not"""
    groups: int | None = None
    """groups that the problems are in, which then take their place; None where none are known"""
    rate_chosen: bool = True
    """False with a grid in which no learning rate could be chosen for an arm"""
    at_one_rate: bool | None = None
    """with a grid: is the claim also made at one and the same learning rate? None where nothing is claimed"""
    alone: Decision | None = None
    """what this answer says by itself, where another one must agree (with and without contaminated problems)"""

    @property
    def exact_p(self) -> float | None:
        """Of two adapters with one answer a problem, where `p` is the mid-p value; None else."""
        return self.pairs[0].exact_p if self.method == "pair" else None


@dataclass(frozen=True)
class OtherK:
    """The study's contrast by pass@k for another k than the declared metric's: exploratory. `holm`: over all such k."""

    k: int
    a: str
    b: str
    a_rate: float
    b_rate: float
    difference: float
    interval: Interval
    p: float
    holm: float


@dataclass(frozen=True)
class LearningRatePoint:
    """One arm at one learning rate of the grid: what chose it (NaN where that is not known), and how it scored."""

    arm: str
    variant: str
    rate: float
    tuning_loss: float
    """mean last validation loss over the seeds"""
    mean: float
    """the declared metric over the study's seeds"""
    diverged: bool
    chosen: bool
    """by at least one seed"""
    seeds: tuple[int, ...] = ()
    """whose own validation loss was lowest here"""


@dataclass(frozen=True)
class Drawn:
    """A derived arm: from where, and how many random draws were trained (at most one for each seed)."""

    arm: str
    source: str
    draws: int


@dataclass(frozen=True)
class SecondaryResult:
    """The chosen checkpoints on another benchmark: reported beside the primary one, never mixed into it."""

    benchmark: str
    problems: int
    tests: int | None
    results: tuple[ArmResult, ...]
    contrasts: tuple[Contrast, ...]


@dataclass(frozen=True)
class AAControl:
    """A/A: two seeds of one arm compared as if they were arms."""

    arm: str
    pairs: int
    largest: float
    mean: float


@dataclass(frozen=True)
class Redecoded:
    """Greedy answers of an arm that were decoded again in another batch shape, and what rounding changed.

    `lost`: verdicts that went from right to wrong, `gained`: from wrong to right.
    """

    arm: str
    answers: int
    texts: int
    programs: int
    lost: int
    gained: int


@dataclass(frozen=True)
class NumericalFloor:
    """How often rounding alone changes a verdict, and what that can do to the study's difference.

    `rate`: flips of all answers, with Wilson's interval. `moved`: the standard deviation of the change in the
    difference if everything were decoded again; `moved_most`: at the upper end of the interval. None without one.
    """

    arms: tuple[Redecoded, ...]
    rate: float
    interval: Interval
    moved: float | None
    moved_most: float | None


@dataclass(frozen=True)
class Cell:
    """One checkpoint on one problem: how many samples were right, the leading verdict, tests passed."""

    verdict: str
    right: int
    samples: int
    passed: int | None
    total: int | None
    not_run: int = 0
    """tests that were not run after a time-out"""


@dataclass(frozen=True)
class GridRow:
    problem: str
    title: str
    cells: tuple[Cell, ...]
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stability:
    """How the problems of one training went over the base, where it was measured, and its `checkpoints` checkpoints."""

    training: Training
    checkpoints: int
    always: tuple[str, ...]
    learned: tuple[str, ...]
    forgotten: tuple[str, ...]
    flickering: tuple[str, ...]
    never: tuple[str, ...]
    forgetting_rate: float | None
    forgetting: Interval | None
    shuffled: Mapping[str, float]
    """how many would be learned, forgotten and flickering, on average, were the points in random order"""


class Start(StrEnum):
    """From where changes are counted."""

    BASE = "base"
    CHECKPOINT = "checkpoint"
    """the first that was judged"""


@dataclass(frozen=True)
class LostAndGained:
    """Answers of an arm's trainings that are right at the start and wrong at the last checkpoint, and the reverse.

    `solved` (at the start), `lost`, `gained`: problems, averaged over the trainings. `net`: gained minus lost, a share
    of the problems; `p` of no net change, problems' signs flipped. It speaks of these trainings.
    """

    arm: str
    start: Start
    trainings: int
    problems: int
    solved: float
    lost: float
    gained: float
    net: float
    interval: Interval
    p: float


@dataclass(frozen=True)
class Stuck:
    """A problem that stays half-solved: some tests passed and none of the answers right, over `checkpoints` in a row.

    `failing`: the tests, counted from 1, that the best answers of all these checkpoints fail, with the verdict at the
    last of them; None where single tests were not recorded.
    """

    training: Training
    problem: str
    title: str
    from_step: int
    to_step: int
    checkpoints: int
    to_the_end: bool
    passed: int
    total: int
    failing: Mapping[str, str] | None


@dataclass(frozen=True)
class FailureCounts:
    """What became of an arm's answers at its chosen checkpoints. `exceptions` are those of the crashes."""

    arm: str
    answers: int
    solved: int
    failures: Mapping[str, int]
    exceptions: Mapping[str, int]
    missing: int


@dataclass(frozen=True)
class FailureDifference:
    """Share of answers that fail in one way, arm b minus arm a, paired by problem. For orientation only."""

    failure: Failure
    difference: float
    interval: Interval
    p: float


@dataclass(frozen=True)
class Shared:
    """One problem at the chosen checkpoints of the compared arms: who fails it, and mostly how ("": does not)."""

    problem: str
    title: str
    tags: tuple[str, ...]
    sharing: Sharing
    a: str
    b: str


@dataclass(frozen=True)
class Group:
    """Problems of one `kind` (tag, difficulty, month): each arm's share of right answers, Wilson over problems."""

    kind: str
    name: str
    problems: int
    rates: Mapping[str, float]
    intervals: Mapping[str, Interval]


@dataclass(frozen=True)
class Diversity:
    """Different programs for one problem, on average, over an arm's seeds and answers; `programs` are those that parse.

    `behaviours` (outcomes and outputs on the tests) is None where single tests were not recorded.
    """

    arm: str
    problems: int
    programs: float
    trees: float
    behaviours: float | None


@dataclass(frozen=True)
class Accepted:
    """Accepted programs of one problem, over an arm's chosen checkpoints and answers; averages over `problems`.

    `trees`: distinct syntax trees. `pairs`: the share of pairs of accepted answers to one problem whose trees differ,
    averaged over the `paired` problems that have a pair: comparable whatever the number of answers.
    """

    arm: str
    problems: int
    """with at least one accepted program"""
    answers: float
    trees: float
    paired: int
    pairs: float


@dataclass(frozen=True)
class Copying:
    """Programs of `arm` against the training solutions of `data`: the longest run of tokens that is in one of them.

    Medians over programs; `share` is the run's share of its program. `near`: near-duplicates of a solution.
    """

    data: str
    arm: str
    solutions: int
    programs: int
    run: float
    share: float
    longest: int
    near: int


@dataclass(frozen=True)
class Copied:
    """A program that is nearest to its arm's training data: its longest run, and the training row that contains it."""

    adapter: AdapterId
    problem: str
    row: str
    run: int
    tokens: int
    near: bool


@dataclass(frozen=True)
class Behaviour:
    """How the arms behave, beyond how much they solve. For orientation: the conclusion uses none of it."""

    stuck: tuple[Stuck, ...]
    outcomes: tuple[FailureCounts, ...]
    differences: tuple[FailureDifference, ...]
    shared: tuple[Shared, ...]
    left_out: int
    """problems left out of `differences`, `shared` and `groups`: some of their verdicts are missing"""
    tags_from: str
    groups: tuple[Group, ...]
    diversity: tuple[Diversity, ...]
    copying: tuple[Copying, ...]
    copied: tuple[Copied, ...]
    no_data: tuple[str, ...]
    """arms whose training data are not in the run folder"""
    lost_and_gained: tuple[LostAndGained, ...] = ()


@dataclass(frozen=True)
class DataFacts:
    """What an arm was trained on, as the data stage measured it. Of a derived arm with several draws, the first.

    None: not looked for in a derived arm, whose rows are those of its sources.
    """

    arm: str
    source: str
    """the file or data set, as the study names it; of a derived arm, from what it was drawn"""
    rows: int
    validation: int
    problems: int
    solutions_per_problem: float
    approaches_per_problem: float
    """mean number of different programs of a problem, of problems with any program"""
    answer_tokens: int
    """what the loss is computed on, once through"""
    longest: int | None
    """tokens of the longest row, prompt and completion"""
    duplicates: int | None
    """rows of the source that repeat an earlier one, prompt and completion"""
    near_duplicates: int | None
    """rows of the source that are near to an earlier one"""
    contaminated: int | None
    """problems of the primary benchmark that were found in the rows"""
    sample_prompt: str
    """the first training row as the model sees it; long texts are cut in the middle, at [...]"""
    sample_completion: str
    """what of it the loss is computed on"""


@dataclass(frozen=True)
class Findings:
    """Everything that `analyse` found in one run.

    `flagged`: problems of the benchmark that are in training data; `uncontaminated`: the contrast without them.
    """

    name: str
    kind: str
    created: str
    arms: tuple[str, ...]
    problems: int
    tests: int | None
    samples: int
    select: Select
    select_declared: bool
    margin: float | None
    wanted: tuple[str, ...]
    base_measured: bool
    curves: tuple[Curve, ...]
    scores: tuple[Score, ...]
    choices: tuple[Choice, ...]
    results: tuple[ArmResult, ...]
    contrasts: tuple[Contrast, ...]
    aa_control: tuple[AAControl, ...]
    learning_rates: tuple[LearningRatePoint, ...]
    at_each_rate: tuple[Contrast, ...]
    secondary: tuple[SecondaryResult, ...]
    drawn: tuple[Drawn, ...]
    benchmark: str
    columns: tuple[AdapterId, ...]
    grid: tuple[GridRow, ...]
    flagged: Mapping[str, tuple[str, ...]]
    uncontaminated: Contrast | None
    stability: tuple[Stability, ...]
    loss_matrix: tuple[LossCell, ...]
    behaviour: Behaviour
    remarks: tuple[Remark, ...]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    format: int = FORMAT
    metric: str = "pass@1"
    """what was declared to be compared: pass@1 or pass@K"""
    other_k: tuple[OtherK, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    numerical_floor: NumericalFloor | None = None
    """None where nothing was decoded again"""
    data: tuple[DataFacts, ...] = ()
    """by arm; empty in imports and in run folders of 0.1.0"""
    shared_rows: tuple[SharedRows, ...] = ()
    """of every two arms whose training data are in the run folder"""

    @property
    def k(self) -> int:
        """Of the metric pass@k."""
        return int(self.metric.removeprefix("pass@"))

    @property
    def primary(self) -> Contrast | None:
        """The contrast of the two arms in `wanted`; None when one of them has no verdicts."""
        return next((contrast for contrast in self.contrasts if contrast.primary), None)

    def score(self, adapter: AdapterId) -> Score | None:
        return next((score for score in self.scores if score.adapter == adapter), None)

    def left_out(self, choice: Choice) -> list[Score]:
        """The training's checkpoints that could not be its best one, since verdicts are missing."""
        training = (choice.training.arm, choice.training.variant, choice.training.seed)
        return [score for score in self.scores if score.missing and score.adapter.training == training]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is its inverse."""
        value = encode(self)
        assert isinstance(value, dict)
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Findings:
        """Raises ValueError for findings of another format, unless it differs in names only."""
        if value.get("format") not in (4, FORMAT):
            raise ValueError(f"findings of format {value.get('format')}, this version reads format {FORMAT}")
        found: Findings = decode(cls, {**value, "format": FORMAT})
        return found
