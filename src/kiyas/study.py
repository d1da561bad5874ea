"""The study file: YAML 1.2 → frozen, validated settings. Every mistake is told at once, with line and hint.

Keys are TRL's, PEFT's and transformers' own wherever they have one. The classes below are the reference: one
docstring a key, shown by `kiyas schema` and in editors.
"""

from __future__ import annotations

import calendar
import difflib
import io
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from kiyas.types import BASE_ARM, KiyasError

PRACTICE = "practice"
NO_SPLIT = "none"
LIVECODEBENCH = "livecodebench"
HUB_BENCHMARKS = {
    LIVECODEBENCH: "livecodebench/code_generation_lite",
    "humaneval": "openai/openai_humaneval",
    "mbpp": "google-research-datasets/mbpp",
}
DATA_FILES = (".jsonl", ".json", ".csv", ".parquet", ".gz", ".yaml", ".yml", ".txt")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Arm(Section):
    """A competing data set, or one derived: `{from: deep, solutions: 1}`, `{mix: {deep: 0.5, diverse: 0.5}}`."""

    model_config = ConfigDict(populate_by_name=True)

    dataset_name: str | None = None
    """A JSONL, CSV or Parquet file (relative to the study file), a data set on the Hub (`owner/name`), or
    `practice/deep`, `practice/diverse`."""
    dataset_config: str | None = None
    """Configuration of a data set on the Hub, where it has several."""
    revision: str | None = None
    """Branch, tag or commit of a data set on the Hub. Default: main when the run starts; the commit is recorded."""
    from_: Annotated[str | None, Field(alias="from")] = None
    """Derived: drawn at random from this arm's training rows."""
    mix: dict[str, Positive] | None = None
    """Derived: drawn at random from these arms, in these shares, as many rows as they have."""
    problems: Count | None = None
    """Derived: only so many problems (groups)."""
    solutions: Count | None = None
    """Derived: at most so many rows of one problem."""
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Derived: this share of the rows that are left."""
    draws: Count = 1
    """Derived: how many random draws are made; seeds take them in turn. A claim about a way of making data needs 3."""

    @property
    def sources(self) -> list[str]:
        """The arms it is derived from; none for one with data of its own."""
        return [self.from_] if self.from_ is not None else list(self.mix or ())

    @model_validator(mode="after")
    def _one_origin(self) -> Arm:
        given = [name for name in ("dataset_name", "from_", "mix") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of dataset_name, from and mix")
        own = [name for name in ("problems", "solutions", "fraction") if getattr(self, name) is not None]
        if self.dataset_name is not None and (own or self.draws > 1):
            raise ValueError(f"{(own or ['draws'])[0]} goes with a derived arm: {{from: ARM, ...}} or {{mix: ...}}")
        if self.dataset_name is None and (self.dataset_config or self.revision):
            raise ValueError("dataset_config and revision go with dataset_name")
        if self.from_ is not None and not own:
            raise ValueError("from needs at least one of problems, solutions, fraction: else it is the same arm")
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
    """Column that says train / validation / test. Default: `split` where the data has it. `none`: hold groups out anew,
    whatever such a column says."""
    group_by: str | None = None
    """Column whose value must never stand on both sides of the split, usually the problem. Default: `group` where
    the data has it, else the prompt."""
    validation_fraction: Fraction = 0.05
    """Share of groups held out where there is no split column."""


class Peft(Section):
    """The LoRA adapter, in PEFT's words."""

    r: Count = 16
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


class Training(Section):
    """The recipe, the same for all arms."""

    budget: Budget = Budget(epochs=3)
    """See Budget."""
    learning_rate: Positive = 2e-4
    """Peak learning rate."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "cosine"
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
    logging_steps: Count = 20
    """Training loss is logged every so many steps."""
    eval_steps: Count = 20
    """Validation loss is measured every so many steps, for every arm on every arm's validation set."""
    save_steps: Count = 100
    """A checkpoint is saved (and later judged) every so many steps, and at the end."""
    patience: Count | None = None
    """Stop an adapter after so many saves without a better validation loss. None (the fair default): never."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the frozen base; auto: bfloat16 on a GPU that has it, else float32. Adapters are kept in float32."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 …"""
    workers: Count | None = None
    """Processes that share the trainings and checkpoints. Default: one per CPU core for small models, one on a GPU."""
    max_tokens_per_pass: Count | None = None
    """Tokens (all adapters together) in one forward pass; a batch is split to fit. Default: by device."""


class Benchmark(Section):
    """One set of problems with tests. Filters say which of them; each is refused where it could not be applied."""

    model_config = ConfigDict(populate_by_name=True)

    dataset: str = PRACTICE
    """`practice`; `livecodebench`, `humaneval` or `mbpp` (from the Hub); or a JSONL file of problems in the judge's, in
    LiveCodeBench's, HumanEval's or MBPP's format (docs/judge.md)."""
    revision: str | None = None
    """Branch, tag or commit of a benchmark on the Hub. Default: main when the run starts; the commit is recorded."""
    release: Annotated[str, Field(pattern=r"^release_v[1-9]$")] | None = None
    """LiveCodeBench's release, as `release_v5`; it holds all earlier ones."""
    platform: list[str] | str | None = None
    """Only problems of these platforms, as `atcoder`."""
    difficulty: list[str] | str | None = None
    """Only problems of these difficulties, as [easy, medium]."""
    from_: Annotated[date | str | None, Field(alias="from")] = None
    """Only problems from this day, month or year on: 2024-08-15, 2024-08, 2024."""
    to: date | str | None = None
    """Only problems up to the end of this day, month or year."""
    tests: Literal["all", "public"] = "all"
    """`public`: only the sample tests of LiveCodeBench's problems, as the published study did: easier than its own."""
    problems: Count | None = None
    """Only the first so many problems of those. Default: all (41 in the practice world)."""
    ids: list[str] | None = None
    """The very problems that must be left, in any order; anything else stops the run."""

    @property
    def hub_id(self) -> str | None:
        """Repository of a benchmark that is known by name."""
        return HUB_BENCHMARKS.get(self.dataset)

    @field_validator("from_", "to", mode="before")
    @classmethod
    def _year(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _dates(self) -> Benchmark:
        if (self.dataset == LIVECODEBENCH) != (self.release is not None):
            raise ValueError("`release` goes with `dataset: livecodebench`, and is needed there (release_v5, say)")
        start, end = (day_of(value, last) for value, last in ((self.from_, False), (self.to, True)))
        if start and end and start > end:
            raise ValueError(f"from {self.from_} is after to {self.to}")
        return self


def day_of(value: date | str | None, last: bool) -> date | None:
    """The first or last day of 2024, 2024-08 or 2024-08-15. Raises ValueError."""
    if value is None or isinstance(value, date):
        return value
    match = re.fullmatch(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?", value.strip())
    if not match:
        raise ValueError(f"{value!r} is no date; write 2024, 2024-08 or 2024-08-15")
    year, month, day = (int(part) if part else 0 for part in match.groups())
    if not last:
        return date(year, month or 1, day or 1)
    month = month or 12
    return date(year, month, day or calendar.monthrange(year, month)[1])


class Benchmarks(Section):
    """What the checkpoints are asked."""

    primary: Benchmark = Benchmark()
    """The benchmark that the conclusion speaks of."""


class Generation(Section):
    """How answers are decoded."""

    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0: greedy; above: sampled."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling: the smallest set of tokens with this probability."""
    num_samples: Count = 1
    """Answers per problem; more than one needs a temperature above 0."""
    max_new_tokens: Count = 2048
    """An answer is cut after so many tokens (and counted as a runaway)."""
    max_rows: Count | None = None
    """Answers decoded at once by one process. Default: by memory. Recorded, since decoding depends on it slightly."""
    seed: int = 0
    """Seed of the sampling noise."""

    @model_validator(mode="after")
    def _noise(self) -> Generation:
        if self.num_samples > 1 and self.temperature == 0:
            raise ValueError("num_samples above 1 needs temperature above 0: greedy answers are all the same")
        return self


class Judge(Section):
    """How programs are run."""

    time_limit_s: Positive | None = None
    """CPU seconds per test. Default: the problem's own limit, else 6."""
    memory_limit_mb: Count | None = None
    """Memory per test. Default: the problem's own limit, else 1024."""
    mode: Literal["strict", "livecodebench"] = "strict"
    """How outputs are compared (docs/judge.md)."""
    isolation: Literal["strong", "standard", "weak", "best"] = "strong"
    """The least isolation accepted; best: the best that this machine has."""
    python: str | None = None
    """Interpreter whose packages the programs may import. Default: this one's standard library only."""
    workers: Count | None = None
    """Programs judged at once. Default: one per CPU core."""


class Compare(Section):
    """Declared before results exist; a digest is stamped into the run."""

    primary: tuple[str, str] | None = None
    """The two arms that the conclusion compares. Default: the first two (one arm: with the base)."""
    select: Literal["last", "validation", "primary"] = "last"
    """Which checkpoint stands for an arm: the last; the lowest validation loss; or the best on the benchmark itself
    (exploratory: it flatters, and the report shows by how much)."""
    matters: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """The smallest difference in pass@1 that matters: the margin for `equivalent`."""


class Report(Section):
    """The page."""

    language: Literal["en", "tr"] = "en"
    """English or Turkish."""


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
    seeds: Count | Annotated[list[int], Field(min_length=1)] = 3
    """How many trainings per arm, or their seeds."""
    peft: Peft = Peft()
    training: Training = Training()
    benchmarks: Benchmarks = Benchmarks()
    generation: Generation = Generation()
    judge: Judge = Judge()
    compare: Compare = Compare()
    report: Report = Report()

    @property
    def seed_list(self) -> list[int]:
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

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
                    raise ValueError(f"arms.{name}: {source!r} is no arm with data of its own; those are {told}")
            if derived.draws > len(self.seed_list):
                raise ValueError(f"arms.{name}: {derived.draws} draws need at least as many seeds")
        folded = [arm.casefold() for arm in self.arms]
        if len(set(folded)) < len(folded):
            raise ValueError("arms: two names differ only in upper and lower case")
        if len(set(self.seed_list)) < len(self.seed_list):
            raise ValueError("seeds: the same seed twice")
        if min(self.seed_list) < 0:
            raise ValueError("seeds: must not be negative")
        for arm in self.compare.primary or ():
            if arm not in self.arms and arm != BASE_ARM:
                raise ValueError(f"compare.primary: no arm {arm!r}; arms are {', '.join(self.arms)}")
        if self.compare.primary and self.compare.primary[0] == self.compare.primary[1]:
            raise ValueError("compare.primary: the same arm twice")
        return self


# Names people bring along from TRL, axolotl and LLaMA-Factory.
KNOWN_ELSEWHERE = {
    "base_model": "model_name_or_path",
    "model": "model_name_or_path",
    "base": "model_name_or_path",
    "datasets": "arms",
    "lora_r": "peft.r",
    "lora_rank": "peft.r",
    "rank": "peft.r",
    "lora_target": "peft.target_modules",
    "lora_target_modules": "peft.target_modules",
    "lora_target_linear": "peft.target_modules: all-linear",
    "lora_alpha": "peft.lora_alpha",
    "lora_dropout": "peft.lora_dropout",
    "lora": "peft",
    "adapter": "peft",
    "sequence_len": "training.max_length",
    "cutoff_len": "training.max_length",
    "max_seq_length": "training.max_length",
    "num_epochs": "training.budget.epochs",
    "num_train_epochs": "training.budget.epochs",
    "epochs": "training.budget.epochs",
    "max_steps": "training.budget.steps",
    "micro_batch_size": "training.effective_batch_size",
    "per_device_train_batch_size": "training.effective_batch_size",
    "train_batch_size": "training.effective_batch_size",
    "gradient_accumulation_steps": "training.effective_batch_size (micro-batches are chosen by device)",
    "lr": "training.learning_rate",
    "lr_scheduler": "training.lr_scheduler_type",
    "train_on_inputs": "training.completion_only_loss (the opposite)",
    "early_stopping_patience": "training.patience",
    "val_set_size": "dataset.validation_fraction",
    "val_size": "dataset.validation_fraction",
    "evals_per_epoch": "training.eval_steps",
    "saves_per_epoch": "training.save_steps",
    "seed": "seeds",
    "system_prompt": "dataset.system",
    "dataset": "dataset_name (inside an arm)",
    "path": "dataset_name",
    "max_tokens": "generation.max_new_tokens",
    "n": "generation.num_samples",
    "timeout": "judge.time_limit_s",
    "output_dir": "name (the run goes to runs/NAME; --runs chooses another folder)",
}


def load(path: Path, overrides: list[str] | None = None) -> Study:
    """Reads a study file and applies dotted overrides such as `training.learning_rate=1e-4`.

    Paths inside are made absolute, relative to the file. Raises KiyasError that lists every mistake.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise KiyasError(f"no study file {path}", "`kiyas init` writes one to start from") from None
    except IsADirectoryError:
        raise KiyasError(f"{path} is a folder; give the study file inside it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KiyasError(f"cannot read {path}: {error}") from error
    return parse(text, str(path), path.resolve().parent, overrides)


def parse(text: str, source: str, folder: Path, overrides: list[str] | None = None) -> Study:
    """As `load`, from text; `source` names it in messages, `folder` is where relative paths start."""
    tree = _yaml(text, source)
    if not isinstance(tree, dict):
        raise KiyasError(f"{source}: a study file is a mapping of keys", "see `kiyas init`")
    problems = [_override(tree, override) for override in overrides or []]
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        problems += [_explain(tree, each) for each in error.errors()]
        study = None
    problems += _paths(tree, folder)
    found = [problem for problem in problems if problem]
    if found or study is None:
        number = f"{len(found)} mistakes" if len(found) > 1 else "a mistake"
        raise KiyasError(f"{source}: {number}\n" + "\n".join(f"  {line}" for line in found))
    return _absolute(study, folder)


def _yaml(text: str, source: str) -> Any:
    try:
        return YAML(typ="rt").load(io.StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}, line {mark.line + 1}" if mark else source
        raise KiyasError(f"{where}: {' '.join(str(error.problem or error.context).split())}") from None
    except YAMLError as error:
        raise KiyasError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


def _override(tree: dict[str, Any], override: str) -> str | None:
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"[\w.-]+", key):
        return f"{override!r}: an override looks like training.learning_rate=1e-4"
    *parents, last = key.split(".")
    node: Any = tree
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            return f"{override!r}: {parent} is not a section"
    node[last] = _yaml(value, f"override {key}")
    return None


def _line(tree: Any, location: tuple[Any, ...]) -> str:
    """`line 7: ` for the deepest part of the location that stands in the file, or nothing for overrides."""
    line = None
    for part in location:
        marks = getattr(tree, "lc", None)
        if marks is None or not marks.data or part not in marks.data:
            break
        line = marks.data[part][0] + 1
        tree = tree[part]
    return f"line {line}: " if line else ""


def _explain(tree: dict[str, Any], error: Any) -> str:
    # pydantic names union members in the location ("int", "list[int]"): keep what stands in the file.
    location: tuple[Any, ...] = ()
    node: Any = tree
    for part in error["loc"]:
        present = (isinstance(node, dict) and part in node) or (
            isinstance(node, list) and isinstance(part, int) and part < len(node)
        )
        if present:
            node = node[part]
            location = (*location, part)
        elif part == error["loc"][-1] and error["type"] == "missing":
            location = (*location, part)
    dotted = ".".join(map(str, location)) or "study"
    where = _line(tree, location)
    if error["type"] == "extra_forbidden":
        return f"{where}unknown key {dotted}{_suggest(error['loc'])}"
    if error["type"] == "missing":
        return f"{where}{dotted} is missing"
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{where}{dotted}: {message}{shown}"


def _suggest(location: tuple[Any, ...]) -> str:
    key = str(location[-1])
    section: type[Section] | None = Study
    for part in location[:-1]:
        field = section.model_fields.get(part) if section else None
        section = _model_in(field.annotation) if field else Arm if section is None else section
    keys = list(section.model_fields) if section else []
    close = difflib.get_close_matches(key, keys, 1, 0.75)
    if close:
        return f"; did you mean {close[0]}?"
    if key in KNOWN_ELSEWHERE:
        return f"; here it is called {KNOWN_ELSEWHERE[key]}"
    for name, field in Study.model_fields.items():
        model = _model_in(field.annotation)
        if model and key in model.model_fields:
            return f"; it belongs under {name}:"
    return f"; keys here are {', '.join(keys)}" if keys else ""


def _model_in(annotation: Any) -> type[Section] | None:
    """The settings class in a field's annotation, looking into dict values."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _model_in(part)
        if found:
            return found
    return None


def is_hub_id(name: str) -> bool:
    """`owner/name`, not the practice world's, by its ending no data file. (A local file of that name goes first.)"""
    owner_and_name = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None
    return owner_and_name and not _is_builtin(name) and Path(name).suffix.lower() not in DATA_FILES


def _is_builtin(name: str) -> bool:
    return name == PRACTICE or name.startswith(PRACTICE + "/")


def _paths(tree: dict[str, Any], folder: Path) -> list[str]:
    """One message for every file that the study names and that is not there."""
    named: list[tuple[tuple[Any, ...], str]] = [(("model_name_or_path",), "model folder")]
    arms = tree.get("arms")
    if isinstance(arms, dict):
        named += [(("arms", arm, "dataset_name"), "data file") for arm in arms]
    named.append((("benchmarks", "primary", "dataset"), "problems file"))
    found = []
    for location, what in named:
        value: Any = tree
        for part in location:
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, str) or (_is_builtin(value) and _known_builtin(location[0], value)):
            continue
        if location[0] == "benchmarks" and value in HUB_BENCHMARKS and not (folder / value).exists():
            continue
        path = folder / Path(value).expanduser()
        dotted = ".".join(map(str, location))
        where = _line(tree, location)
        if _is_builtin(value):
            found.append(f"{where}{dotted}: no {value!r} in the practice world{_practice_hint(location[0])}")
        elif is_hub_id(value) and not path.exists() and location[0] != "benchmarks":
            continue
        elif not path.exists():
            found.append(f"{where}{dotted}: no {what} {value!r} (looked in {folder})")
        elif location[0] == "model_name_or_path" and not (path / "config.json").is_file():
            found.append(f"{where}{dotted}: {value!r} holds no config.json, so it is not a model folder")
        elif location[0] != "model_name_or_path" and not path.is_file():
            found.append(f"{where}{dotted}: {value!r} is a folder; give a file")
    return found


PRACTICE_DATASETS = ("practice/deep", "practice/diverse", "practice/wrong")


def _known_builtin(section: str, value: str) -> bool:
    return value in PRACTICE_DATASETS if section == "arms" else value == PRACTICE


def _practice_hint(section: str) -> str:
    return f"; it has {', '.join(PRACTICE_DATASETS)}" if section == "arms" else f"; write just {PRACTICE}"


def _absolute(study: Study, folder: Path) -> Study:
    def full(name: str) -> str:
        path = (folder / Path(name).expanduser()).resolve()
        elsewhere = (is_hub_id(name) or name in HUB_BENCHMARKS) and not path.exists()
        return name if _is_builtin(name) or elsewhere else str(path)

    primary = study.benchmarks.primary
    return study.model_copy(
        update={
            "model_name_or_path": full(study.model_name_or_path),
            "arms": {
                name: arm.model_copy(update={"dataset_name": arm.dataset_name and full(arm.dataset_name)})
                for name, arm in study.arms.items()
            },
            "benchmarks": study.benchmarks.model_copy(
                update={"primary": primary.model_copy(update={"dataset": full(primary.dataset)})}
            ),
        }
    )
