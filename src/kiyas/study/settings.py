"""The settings of a study: frozen and validated. `file.py` reads them from YAML.

Keys are TRL's, PEFT's and transformers' own wherever they have one. The classes below are the reference: one
docstring per key, shown by `kiyas schema` and in editors.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Mapping
from datetime import date
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    field_validator,
    model_validator,
)

from kiyas.judge import FORMATS, Format
from kiyas.judge.types import AfterTimeout, ExtractionRule, Isolation, Mode, ToleranceRule
from kiyas.types import BASE_ARM

PRACTICE = "practice"
NO_SPLIT = "none"
HUB_BENCHMARKS = {name: format for name, format in FORMATS.items() if format.hub_id is not None}
"""Benchmarks that are known by name."""
DATA_FILES = (
    *(".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".yaml", ".yml", ".txt", ".xlsx"),
    *(".gz", ".bz2", ".xz", ".zst", ".lzma", ".zip", ".tar", ".7z"),
)


class Scheduler(StrEnum):
    """Shape of the learning rate after warm-up, as in transformers' `get_scheduler`."""

    LINEAR = "linear"
    COSINE = "cosine"
    CONSTANT = "constant"


class Dtype(StrEnum):
    """Number format of the frozen base."""

    AUTO = "auto"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


class Tracker(StrEnum):
    """What a run can report to while it runs. Each is an extra of the same name."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"
    TRACKIO = "trackio"


class Tests(StrEnum):
    """Which of a problem's tests are run."""

    ALL = "all"
    PUBLIC = "public"


class Select(StrEnum):
    """The rule that picks the checkpoint that represents a training."""

    LAST = "last"
    VALIDATION = "validation"
    """lowest validation loss"""
    DEVELOPMENT = "development"
    """best on the first benchmark of `also`"""
    PRIMARY = "primary"
    """best on the primary benchmark itself: exploratory"""


class Accept(StrEnum):
    """What is known to be unfair and accepted explicitly."""

    UNEQUAL_BUDGETS = "unequal_budgets"


def _language(value: str) -> str:
    # A language is a file: settings name it, and do not import the report.
    names = (path.name for path in (resources.files("kiyas") / "report" / "phrases").iterdir())
    there = sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))
    if value not in there:
        raise ValueError(f"Input should be one of: {', '.join(there)}")
    return value


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )


Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
MOST = 10_000
"""Seeds of an arm, random draws, answers to a problem: more is taken for a typing error."""


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")
    return value


Number = Annotated[int, BeforeValidator(_number)]
Count = Annotated[Number, Field(ge=1, le=10**9)]
Workers = Annotated[Number, Field(ge=1, le=1024)]
Few = Annotated[Number, Field(ge=1, le=MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=1e-6, le=1e6)]
NAME = r"^[\p{L}\p{N}][\p{L}\p{M}\p{N}._-]{0,63}$"
DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"
RELEASE = r"^release_v[1-9]$"
METRIC = r"^pass@[1-9]\d{0,4}$"
PATTERNS = {
    NAME: "a name has letters, digits, . _ and -, no blanks; it begins with a letter or digit; 64 characters at most",
    DEVICE: "give auto, cpu, mps, cuda or one GPU such as cuda:1",
    RELEASE: "give a release such as release_v5",
    METRIC: "give pass@1 or pass@K, such as pass@10",
}
"""What a text must be that has to match a pattern, in words."""
Name = Annotated[str, Field(pattern=NAME)]


class Peft(Section):
    """The LoRA adapter, in PEFT's words."""

    r: Annotated[Number, Field(ge=1, le=2**16)] = 16
    """Rank."""
    lora_alpha: Positive = 32
    """Scale: the update is multiplied by lora_alpha / r."""
    lora_dropout: Fraction = 0.0
    """Dropout on the adapter's input, in training."""
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    """`all-linear` (all but the output head), or names of modules such as [q_proj, v_proj]."""


class Budget(Section):
    """What every arm may spend: exactly one of these, the same for all arms."""

    epochs: Positive | None = None
    """Passes over the smallest arm that is not derived; every arm takes that many steps."""
    steps: Count | None = None
    """Optimizer steps."""
    examples: Count | None = None
    """Samples seen, repeats included."""
    completion_tokens: Count | None = None
    """Completion tokens seen; arms with longer answers take fewer steps."""

    @model_validator(mode="after")
    def _one(self) -> Budget:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of epochs, steps, examples, completion_tokens (got {given or 'none'})")
        return self


class Recipe(Section):
    """Hyper-parameters: the same for all arms, unless an arm sets its own in its `training:`."""

    budget: Budget = Budget(epochs=3)
    """What every arm may spend: exactly one of the keys below, the same for all arms."""
    learning_rate: Positive | list[Positive] = 2e-4
    """Peak learning rate. A list is a grid, the same for all arms: every seed is trained at every rate, and represented
    by the rate with its own lowest validation loss."""
    lr_scheduler_type: Scheduler = Scheduler.COSINE
    """Shape after warm-up; linear and cosine end at zero."""
    warmup_ratio: Fraction = 0.03
    """Share of the steps with a linearly rising learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay."""
    adam_beta1: Fraction = 0.9
    """AdamW's beta1."""
    adam_beta2: Fraction = 0.999
    """AdamW's beta2."""
    adam_epsilon: Positive = 1e-8
    """AdamW's epsilon."""
    max_grad_norm: Positive = 1.0
    """Gradient norm at which each adapter is clipped, on its own."""
    effective_batch_size: Count = 16
    """Samples per optimizer step and adapter."""
    max_length: Count = 1024
    """Longest sample in tokens (prompt and completion). Longer ones are dropped for all arms alike, and counted."""
    completion_only_loss: bool = True
    """Loss on the completion only; false: on the prompt as well."""
    patience: Count | None = None
    """Stop an adapter after this many saves without a better validation loss. None (the fair default): never."""

    @property
    def rate(self) -> float:
        """The learning rate of one training's own recipe (`Study.recipe`), where no grid is left."""
        assert isinstance(self.learning_rate, float)
        return self.learning_rate


class Training(Recipe):
    """The recipe, and how training is logged and divided among processes."""

    logging_steps: Count = 20
    """Training loss is logged at this interval, in steps."""
    eval_steps: Count = 20
    """Validation loss is measured at this interval, in steps, for every arm on every arm's validation set."""
    save_steps: Count = 100
    """A checkpoint is saved (and later judged) at this interval, in steps, and at the end."""
    dtype: Dtype = Dtype.AUTO
    """Number format of the frozen base: float32, float16 or bfloat16. auto: on a GPU bfloat16, on Volta and Turing (a
    T4) float16; on a CPU float32 for small bases, for large ones whichever is faster there. Chosen once per run.
    Adapters are in float32."""
    load_in_4bit: bool = False
    """Keeps the base's linear layers in 4 bits (NF4, as in QLoRA), in a quarter of the memory: 7B on 16 GB. That is
    another base than the one in 16 bits, and the conclusions are about it. `dtype` is what it computes in. Needs
    `pip install 'kiyas[quantized]'`."""
    device: Annotated[str, Field(pattern=DEVICE)] = "auto"
    """auto: all GPUs, else the CPU; cpu; cuda: all GPUs; cuda:1: that one; mps: untested. GPUs are those that
    CUDA_VISIBLE_DEVICES names."""
    workers: Workers | None = None
    """Processes that share the trainings and checkpoints: at most one a GPU. Default: one a GPU; on a CPU one per core
    for small models."""
    max_tokens_per_pass: Count | None = None
    """Tokens (all adapters together) in one forward pass; a batch is split to fit. Default: by device."""
    report_to: list[Tracker] = []
    """Trackers that receive losses, pass rates, the conclusion and the report: [tensorboard, wandb, trackio], any of
    them. Each needs `pip install 'kiyas[NAME]'`. They change nothing in the run (docs/trackers.md)."""

    @field_validator("report_to", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """As in transformers one name may be given, or none; all that are installed would be a guess."""
        if value in ("all", ["all"]):
            raise ValueError("name the trackers: tensorboard, wandb, trackio")
        if value in (None, "none", ["none"]):
            return []
        return list(dict.fromkeys([value] if isinstance(value, str) else value))

    @field_validator("learning_rate")
    @classmethod
    def _grid(cls, value: float | list[float]) -> float | list[float]:
        if isinstance(value, list) and len(set(value)) < max(2, len(value)):
            raise ValueError("a grid is a list of at least two different learning rates")
        if isinstance(value, list) and len({f"{rate:g}" for rate in value}) < len(value):
            raise ValueError("two learning rates of the grid differ only behind the sixth digit")
        return value


def _overrides(name: str, section: type[Section], doc: str) -> Any:
    """A settings class with the fields of `section`, none of which has to be given."""
    fields: dict[str, Any] = {
        key: (Optional[field.annotation], Field(default=None, description=field.description))  # noqa: UP045
        for key, field in section.model_fields.items()
    }
    return create_model(name, __base__=Section, __doc__=doc, **fields)


if TYPE_CHECKING:
    ArmTraining: TypeAlias = Any
    ArmPeft: TypeAlias = Any
else:
    ArmTraining = _overrides("ArmTraining", Recipe, "What differs from `training:` for one arm.")
    ArmPeft = _overrides("ArmPeft", Peft, "What differs from `peft:` for one arm.")


def _given(own: Section | None) -> dict[str, Any]:
    """What an arm sets of its own."""
    return {key: value for key, value in own or () if value is not None}


class Expect(Section):
    """What an arm's training rows are expected to be; a run stops if they are not."""

    problems: Count | None = None
    """Distinct problems (groups), within 5 %."""
    solutions: Positive | None = None
    """Rows of one problem, on average, within 5 %."""


class Arm(Section):
    """A competing data set, one derived (`{from: deep, solutions: 1}`, `{mix: {deep: 0.5, diverse: 0.5}}`), adapters
    that were trained elsewhere (`{checkpoints: out/deep}`), or a whole fine-tuned model (`{model: out/deep}`)."""

    model_config = ConfigDict(populate_by_name=True)

    dataset_name: str | None = None
    """A JSONL, JSON, CSV or Parquet file, plain or compressed (relative to the study file), a data set on the Hub
    (`owner/name`), or `practice/deep`, `practice/diverse`."""
    dataset_config: str | None = None
    """Configuration of a data set on the Hub, where it has several."""
    revision: str | None = None
    """Branch, tag or commit of a data set on the Hub. Default: main when the run starts; the commit is recorded."""
    from_: Annotated[str | None, Field(alias="from")] = None
    """Derived: drawn at random from this arm's training rows."""
    mix: dict[str, Share] | None = None
    """Derived: drawn at random from these arms, in these shares, as many rows as they have."""
    problems: Count | None = None
    """Derived: only this many problems (groups)."""
    solutions: Count | None = None
    """Derived: at most this many rows of one problem."""
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Derived: this share of the rows that are left."""
    draws: Few = 1
    """Derived: how many random draws are made; seeds use them in turn. A claim about a way of making data needs 3."""
    checkpoints: str | None = None
    """A folder of PEFT checkpoints that were trained elsewhere (`checkpoint-100/`, `seed-1/checkpoint-100/` …): nothing
    is trained for this arm. Their seeds must be those of `seeds`."""
    model: str | None = None
    """A folder with a whole fine-tuned model: it answers by itself, without the study's base. It is one training, so
    `seeds` must be one."""
    training: ArmTraining | None = None
    """What differs from `training:` for this arm; the report lists it."""
    peft: ArmPeft | None = None
    """What differs from `peft:` for this arm; the report lists it."""
    newest: date | str | None = None
    """The newest day, month or year of what this data was made from (2024-12): benchmark problems up to then may be in
    it undetected, and the report says how many there are."""
    expect: Expect | None = None
    """What this data is expected to be, such as {problems: 1000, solutions: 5}: stops a run with swapped files."""

    @property
    def sources(self) -> list[str]:
        """The arms it is derived from; none for one with data of its own."""
        return [self.from_] if self.from_ is not None else list(self.mix or ())

    @property
    def is_given(self) -> bool:
        """Whether it was trained elsewhere."""
        return self.checkpoints is not None or self.model is not None

    @field_validator("newest", mode="before")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        value = str(value) if isinstance(value, int) else value
        day_of(value, True)
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> Arm:
        origins = ("dataset_name", "from_", "mix", "checkpoints", "model")
        if sum(getattr(self, name) is not None for name in origins) != 1:
            raise ValueError("give exactly one of dataset_name, from, mix, checkpoints and model")
        own = [name for name in ("problems", "solutions", "fraction") if getattr(self, name) is not None]
        if not self.sources and (own or self.draws > 1):
            raise ValueError(f"{(own or ['draws'])[0]} goes with a derived arm: {{from: ARM, ...}} or {{mix: ...}}")
        if self.dataset_name is None and (self.dataset_config or self.revision):
            raise ValueError("dataset_config and revision go with dataset_name")
        if self.from_ is not None and not own:
            raise ValueError("from needs at least one of problems, solutions, fraction: else it is the same arm")
        if self.is_given and (self.training or self.peft or self.expect):
            raise ValueError("training, peft and expect go with an arm that is trained here")
        if self.training is not None and isinstance(self.training.learning_rate, list):
            raise ValueError("a grid of learning rates is the same for all arms: give it under `training:`")
        return self


class Dataset(Section):
    """How rows of every arm are read."""

    system: str | None = None
    """System prompt of every chat, in training and on the benchmark. None: what the chat template does by itself."""
    prompt_column: str = "prompt"
    """Column with the user's text."""
    completion_column: str = "completion"
    """Column with the answer to learn."""
    split_column: str | None = None
    """Column that says train / validation / test. Default: `split` where the data has it. `none`: ignore such a
    column and hold out groups."""
    group_by: str | None = None
    """Column whose value must never be on both sides of the split, usually the problem. Default: `group` where
    the data has it, else the prompt."""
    validation_fraction: Fraction = 0.05
    """Share of groups held out if there is no split column."""


def benchmark_name(dataset: str) -> str:
    """The name of a benchmark whose Hub id is given; anything else as it is."""
    return next((name for name, known in HUB_BENCHMARKS.items() if known.hub_id == dataset), dataset)


def benchmark_label(dataset: str) -> str:
    """A benchmark's name, or its file's."""
    return Path(dataset).name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")


class Benchmark(Section):
    """One set of problems with tests. Filters select some of them; a filter that cannot be applied is refused."""

    model_config = ConfigDict(populate_by_name=True)

    dataset: str = PRACTICE
    """`practice`; a benchmark on the Hub by its name or Hub id, such as `livecodebench`, `humaneval`, `humanevalplus`,
    `mbpp` or `mbppplus`; or a JSONL file of problems in a format that `kiyas judge` reads (docs/judge.md)."""
    revision: str | None = None
    """Branch, tag or commit of a benchmark on the Hub. Default: main when the run starts; the commit is recorded."""
    release: Annotated[str, Field(pattern=RELEASE)] | None = None
    """LiveCodeBench's release, such as `release_v5`; it includes all earlier ones."""
    platform: list[str] | str | None = None
    """Only problems of these platforms, such as `atcoder`."""
    difficulty: list[str] | str | None = None
    """Only problems of these difficulties, such as [easy, medium]."""
    from_: Annotated[date | str | None, Field(alias="from")] = None
    """Only problems from this day, month or year on: 2024-08-15, 2024-08, 2024."""
    to: date | str | None = None
    """Only problems up to the end of this day, month or year."""
    tests: Tests = Tests.ALL
    """`public`: only the sample tests of LiveCodeBench's problems, as in the published study: easier than all tests."""
    problems: Count | None = None
    """Only this many of those problems, the first ones. Default: all (41 in the practice world)."""
    ids: list[str] | None = None
    """Exactly the problems that must remain after filtering, in any order; any other set stops the run."""

    @property
    def label(self) -> str:
        """What reports call it: its name, or its file's."""
        return benchmark_label(self.dataset)

    @property
    def known(self) -> Format | None:
        """What is known of a benchmark that is named, not a file."""
        return HUB_BENCHMARKS.get(self.dataset)

    @property
    def hub_id(self) -> str | None:
        """Its repository."""
        return self.known.hub_id if self.known is not None else None

    @field_validator("dataset")
    @classmethod
    def _by_hub_id(cls, value: str) -> str:
        return benchmark_name(value)

    @field_validator("from_", "to", mode="before")
    @classmethod
    def _year(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _dates(self) -> Benchmark:
        if (self.known is not None and self.known.release_files is not None) != (self.release is not None):
            released = " or ".join(name for name, known in HUB_BENCHMARKS.items() if known.release_files is not None)
            raise ValueError(f"`release` goes with `dataset: {released}`, and is needed there (release_v5, say)")
        start, end = (day_of(value, last) for value, last in ((self.from_, False), (self.to, True)))
        if start and end and start > end:
            raise ValueError(f"from {self.from_} is after to {self.to}")
        return self


def day_of(value: date | str | None, last: bool) -> date | None:
    """The first or last day of 2024, 2024-08 or 2024-08-15. Raises ValueError."""
    if value is None or isinstance(value, date):
        return value
    if not isinstance(value, str):
        raise ValueError("write a date as 2024, 2024-08 or 2024-08-15")
    match = re.fullmatch(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?", value.strip())
    if not match:
        raise ValueError(f"{value!r} is not a date; write 2024, 2024-08 or 2024-08-15")
    year, month, day = (int(part) if part else 0 for part in match.groups())
    try:
        date(year, month or 1, day or 1)
    except ValueError as error:
        raise ValueError(f"{value!r} is not a date: {error}") from None
    if not last:
        return date(year, month or 1, day or 1)
    month = month or 12
    return date(year, month, day or calendar.monthrange(year, month)[1])


class Benchmarks(Section):
    """The benchmarks that the checkpoints answer."""

    primary: Benchmark = Benchmark()
    """The benchmark that the conclusion is about."""
    also: list[Benchmark] = []
    """Secondary benchmarks, such as [humaneval, mbpp]: reported separately, never mixed into the conclusion."""

    @field_validator("also", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        named = isinstance(value, list)
        return [{"dataset": each} if isinstance(each, str) else each for each in value] if named else value

    @property
    def named(self) -> dict[str, Benchmark]:
        """All of them by label, the primary one first."""
        return {each.label: each for each in (self.primary, *self.also)}

    def each(self, change: Callable[[Benchmark], Benchmark]) -> Benchmarks:
        """All of them, changed."""
        return self.model_copy(update={"primary": change(self.primary), "also": [change(each) for each in self.also]})

    @model_validator(mode="after")
    def _apart(self) -> Benchmarks:
        if len(self.named) < 1 + len(self.also):
            raise ValueError("also: two benchmarks have the same name; give the files different names")
        return self


class Generation(Section):
    """How answers are decoded."""

    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0: greedy; above: sampled."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling: the smallest set of tokens with this probability."""
    num_samples: Few = 1
    """Answers per problem; more than one needs a temperature above 0."""
    max_new_tokens: Count = 2048
    """An answer is cut after this many tokens (and counted as a runaway)."""
    max_rows: Count | None = None
    """Answers decoded at once by one process. Default: by memory. Recorded, since decoding depends on it slightly."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    """Seed of the sampling noise."""
    batch_invariance: Annotated[Number, Field(ge=0, le=10**9)] = 100
    """How many greedy answers of the compared arms' last checkpoints are decoded again in another batch shape, to see
    how often rounding alone changes a verdict. 0: none. They take at least as long as the longest of them. Sampled
    answers are never decoded again."""

    @model_validator(mode="after")
    def _noise(self) -> Generation:
        if self.num_samples > 1 and self.temperature == 0:
            raise ValueError("num_samples above 1 needs temperature above 0: greedy answers are identical")
        return self


class Judge(Section):
    """How programs are run."""

    time_limit_s: Annotated[float, Field(ge=0.001, le=3600)] | None = None
    """CPU seconds per test. Default: the problem's own limit, else 6."""
    memory_limit_mb: Annotated[Number, Field(ge=1, le=1 << 20)] | None = None
    """Memory per test. Default: the problem's own limit, else 1024."""
    mode: Mode = Mode.STRICT
    """How outputs are compared (docs/judge.md)."""
    extraction: ExtractionRule = ExtractionRule.KIYAS
    """How the program is found in an answer: kiyas, the last block that is a program; livecodebench, what is between
    the last two lines with three backticks (docs/judge.md)."""
    tolerance: ToleranceRule = ToleranceRule.STATEMENT
    """statement: problems whose statement allows an absolute or relative error are judged within it. exact: only a
    problem's own tolerance counts. The mode livecodebench is exact."""
    isolation: Isolation = Isolation.STRONG
    """The least isolation accepted; best: the best that this machine has."""
    python: str | None = None
    """Interpreter whose packages the programs may import. Default: the standard library only."""
    workers: Workers | None = None
    """Programs judged at once. Default: one per CPU core."""
    after_timeout: AfterTimeout = AfterTimeout.STOP
    """After a program's first time-out: stop (its other tests are not run and count as not passed), or continue."""

    @property
    def allows_stated_errors(self) -> bool:
        """Problems are judged within the error that their statement allows."""
        return self.tolerance is ToleranceRule.STATEMENT and self.mode is not Mode.LIVECODEBENCH

    @field_validator("mode")
    @classmethod
    def _one(cls, value: Mode) -> Mode:
        if value is Mode.BOTH:
            raise ValueError("a study counts one kind of verdict: strict or livecodebench")
        return value


class Compare(Section):
    """Declared before there are results; a digest is recorded in the run."""

    primary: tuple[str, str] | None = None
    """The two arms that the conclusion compares. Default: the first two (one arm: with the base)."""
    contrasts: list[tuple[str, str]] = []
    """Further pairs of arms (or base) that the study declares beforehand. With the primary one they are corrected for
    multiple testing (Holm); all other differences are exploratory."""
    metric: Annotated[str, Field(pattern=METRIC)] = "pass@1"
    """pass@1, or pass@K: the chance that at least one of K answers to a problem is right, estimated from
    generation.num_samples answers (K at most). Everything is compared and chosen by it."""
    select: Select = Select.LAST
    """Which checkpoint represents an arm: the last; the lowest validation loss; the best on the first benchmark of
    `also`; or the best on the primary benchmark itself (exploratory: it has selection bias, which the report shows)."""
    matters: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """The smallest difference in the metric that matters: the equivalence margin. A share: 0.05 is 5 points."""
    accept: list[Accept] = []
    """What is known to be unfair and accepted explicitly. Without `unequal_budgets` arms that may spend unequally (by
    their own `training:`) are refused."""

    @field_validator("matters", mode="before")
    @classmethod
    def _share(cls, value: Any) -> Any:
        points = re.fullmatch(r"(\d+(?:\.\d+)?) ?%?", str(value))
        if points and 1 <= float(points[1]) < 100:
            raise ValueError(f"give a share, not points: {float(points[1]):g} points are {float(points[1]) / 100:g}")
        return value

    @property
    def k(self) -> int:
        """Answers to a problem of which the metric wants one to be right."""
        return int(self.metric.removeprefix("pass@"))


class Report(Section):
    """The page."""

    language: Annotated[str, AfterValidator(_language)] = "en"
    """The language of the report: `en`, `tr`, or another one that has a file of phrases."""


class Study(Section):
    """One comparison."""

    name: Name
    """Name of the run folder."""
    model_name_or_path: str
    """The frozen base: a local model folder, a model on the Hub (`owner/name`), or `practice`."""
    model_revision: str | None = None
    """Branch, tag or commit of a model on the Hub. Default: main when the run starts; the commit is recorded."""
    arms: Annotated[dict[Name, Arm], Field(min_length=1)]
    """The competing data sets."""
    dataset: Dataset = Dataset()
    seeds: Few | Annotated[list[Seed], Field(min_length=1, max_length=MOST)] = 3
    """How many seeds (trainings) per arm, or a list of seeds."""
    peft: Peft = Peft()
    training: Training = Training()
    benchmarks: Benchmarks = Benchmarks()
    generation: Generation = Generation()
    judge: Judge = Judge()
    compare: Compare = Compare()
    report: Report = Report()
    store: str | None = None
    """A folder that outlives this machine, such as a mounted drive: while the run goes on, what is finished is copied
    into NAME there, and on a new machine the same command takes it back. It changes nothing in the run
    (docs/colab.md)."""

    @property
    def seed_list(self) -> list[int]:
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    @property
    def variants(self) -> dict[str, float]:
        """Points of the learning-rate grid by name (`AdapterId.variant`); without a grid the one point has no name."""
        rates = self.training.learning_rate
        return {f"lr-{rate:g}": rate for rate in rates} if isinstance(rates, list) else {"": rates}

    def variants_of(self, arm: str) -> dict[str, float]:
        """The grid, or the arm's own learning rate where it has one."""
        own = self.arms[arm].training
        return {"": own.learning_rate} if own is not None and own.learning_rate is not None else self.variants

    def recipe(self, arm: str, variant: str = "") -> Training:
        """What one training of an arm is made with: the study's `training`, with the arm's own differences."""
        rate = self.variants_of(arm).get(variant)
        chosen = {} if rate is None else {"learning_rate": rate}
        return self.training.model_copy(update={**_given(self.arms[arm].training), **chosen})

    def peft_of(self, arm: str) -> Peft:
        """The adapter of an arm: the study's `peft`, with the arm's own differences."""
        return self.peft.model_copy(update=_given(self.arms[arm].peft))

    @property
    def target_modules(self) -> str | list[str]:
        """All modules that an adapter of any arm may have."""
        each = [self.peft_of(arm).target_modules if arm in self.trained else "all-linear" for arm in self.arms]
        return "all-linear" if "all-linear" in each else sorted({name for names in each for name in names})

    @property
    def trained(self) -> list[str]:
        """The arms that are trained here: all but those of given checkpoints and models."""
        return [name for name, arm in self.arms.items() if not arm.is_given]

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        if BASE_ARM in self.arms:
            raise ValueError(f"arms: {BASE_ARM!r} is the untrained model's own name; call the arm something else")
        if "problems" in self.arms:
            raise ValueError("arms: 'problems' is the benchmark's own file name; call the arm something else")
        own = [name for name, arm in self.arms.items() if arm.dataset_name is not None]
        for name, derived in self.arms.items():
            for source in derived.sources:
                if source not in own:
                    told = ", ".join(own) or "none"
                    raise ValueError(f"arms.{name}: {source!r} is not an arm with its own data; those are {told}")
            if derived.draws > len(self.seed_list):
                raise ValueError(f"arms.{name}: {derived.draws} draws need at least as many seeds")
        folded = [arm.casefold() for arm in self.arms]
        if len(set(folded)) < len(folded):
            raise ValueError("arms: two names differ only in upper and lower case")
        if len(set(self.seed_list)) < len(self.seed_list):
            raise ValueError("seeds: the same seed twice")
        whole = [name for name, arm in self.arms.items() if arm.model is not None]
        if whole and len(self.seed_list) > 1:
            raise ValueError(f"arms.{whole[0]}: a whole model is one training: write seeds: 1")
        if min(self.seed_list) < 0:
            raise ValueError("seeds: must not be negative")
        for key, pair in (("primary", self.compare.primary), *(("contrasts", pair) for pair in self.compare.contrasts)):
            for arm in pair or ():
                if arm not in self.arms and arm != BASE_ARM:
                    raise ValueError(f"compare.{key}: no arm {arm!r}; arms are {', '.join(self.arms)}")
            if pair and pair[0] == pair[1]:
                raise ValueError(f"compare.{key}: the same arm twice")
        if self.compare.select is Select.DEVELOPMENT and not self.benchmarks.also:
            raise ValueError("compare.select: development chooses on the first benchmark of benchmarks.also: give one")
        if self.compare.k > self.generation.num_samples:
            raise ValueError(
                f"compare.metric: {self.compare.metric} needs {self.compare.k} answers to every problem or more; "
                f"generation.num_samples is {self.generation.num_samples} (and needs a temperature above 0)"
            )
        own_rate = [arm for arm in self.trained if len(self.variants_of(arm)) < len(self.variants)]
        if own_rate:
            raise ValueError(f"arms.{own_rate[0]}.training.learning_rate: the grid of rates is the same for all arms")
        return self


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their full names: {"budget": {"steps": 7}} → {"budget.steps": 7}."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def as_text(value: Any, number: Callable[[float], str] = str) -> str:
    """A setting of any kind as a user would write it; what is not set is left out."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {as_text(each, number)}" for key, each in flat(value).items() if each is not None)
    if isinstance(value, list):
        return ", ".join(as_text(each, number) for each in value)
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


HARMLESS = frozenset(
    {
        "judge.workers",
        "training.workers",
        "training.device",
        "training.max_tokens_per_pass",
        "training.report_to",
        "generation.max_rows",
        "store",
    }
)
"""Settings that change how work is laid out; what comes out differs by rounding at most."""


def is_hub_id(name: str) -> bool:
    """Is it `owner/name`, not of the practice world, and without a data file's ending? (A local file goes first.)"""
    owner_and_name = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None
    return owner_and_name and not is_builtin(name) and Path(name).suffix.lower() not in DATA_FILES


def is_builtin(name: str) -> bool:
    return name == PRACTICE or name.startswith(PRACTICE + "/")
