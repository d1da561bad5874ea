"""The study file: YAML 1.2 → `Study`. All mistakes are reported at once, with line and hint."""

from __future__ import annotations

import difflib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from kiyas.judge import JudgeError
from kiyas.judge import trust as judge_trust
from kiyas.study import limits
from kiyas.study.settings import (
    HUB_BENCHMARKS,
    PATTERNS,
    PRACTICE,
    Arm,
    Benchmark,
    Section,
    Study,
    as_text,
    benchmark_name,
    flat,
    is_builtin,
    is_hub_id,
)
from kiyas.types import KiyasError, did_you_mean

GONE = {"tuning_seeds": "each seed's learning rate is now chosen by its own validation loss: leave this key out"}
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
    "use_wandb": "training.report_to: [wandb]",
    "wandb_project": "training.report_to: [wandb] (the project is the variable WANDB_PROJECT)",
    "use_tensorboard": "training.report_to: [tensorboard]",
    "logging_dir": "training.report_to: [tensorboard] (its files are in the run folder)",
    "trackers": "training.report_to",
    "loggers": "training.report_to",
    "output_dir": "name (the run folder is runs/NAME; --runs chooses another folder)",
}


PRACTICE_DATASETS = ("practice/deep", "practice/diverse", "practice/wrong")


def load(path: Path, overrides: list[str] | None = None, folder: Path | None = None) -> Study:
    """Reads a study file and applies dotted overrides such as `training.learning_rate=1e-4`.

    Paths inside are made absolute, relative to `folder`, or to the file's. Raises KiyasError that lists every mistake.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise KiyasError(f"cannot read {path}: it is a pipe, a device or a socket", "give a regular file")
    try:
        limits.STUDY_FILE.refuse_above(path.stat().st_size, path)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        meant = _study_beside(path)
        hint = "`kiyas init` writes one to start from"
        raise KiyasError(f"no study file {path}{meant}", "" if meant else hint) from None
    except IsADirectoryError:
        raise KiyasError(f"{path} is a folder; give the study file inside it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KiyasError(f"cannot read {path}: {error}") from error
    return parse(text, str(path), folder or path.resolve().parent, overrides)


def _study_beside(path: Path) -> str:
    """`; did you mean mine.yaml?`, where such a file lies in the folder."""
    names = sorted(each.name for each in path.parent.glob("*.y*ml"))
    close = [name for name in names if Path(name).stem == path.stem] or difflib.get_close_matches(
        path.name, names, 1, 0.7
    )
    return f"; did you mean {path.with_name(close[0])}?" if close else ""


def refuse_untrusted(
    study: Study, path: Path | None, run: Path | None, overrides: list[str], *, trust: bool, ask: bool = True
) -> None:
    """Raises KiyasError where `judge.python` came with the study file or with the run folder, and nobody trusts it.

    Also where the file, and no override, asks for weak isolation. `trust`: the user says so now. `ask`: on a terminal
    the user is asked.
    """
    files = [] if path is None else [path, path.resolve()]
    try:
        folders = [*(file.parent for file in files), *([] if run is None else [run])]
        judge_trust.allow(study.judge.python, folders, trust=trust, ask=ask)
        if path is not None and not any(each.startswith("judge") and "isolation" in each for each in overrides):
            judge_trust.allow_weak(path, study.judge.isolation, trust=trust, ask=ask)
    except JudgeError as error:
        raise KiyasError(error.args[0], error.hint) from error


def parse(text: str, source: str, folder: Path, overrides: list[str] | None = None) -> Study:
    """As `load`, from text; `source` names it in messages, `folder` is where relative paths start."""
    return read(_yaml(text, source), source, folder, overrides)


def read(tree: Any, source: str, folder: Path, overrides: list[str] | None = None) -> Study:
    """As `parse`, from what is in the text; the overrides are put into `tree`."""
    if not isinstance(tree, dict):
        raise KiyasError(f"{source}: a study file is a mapping of keys", "see `kiyas init`")
    _refuse_blanks(overrides or [])
    given = [_keys(override)[0] for override in overrides or []]
    _make_room(tree, given)
    problems = [_override(tree, override) for override in overrides or []]
    whence = _Whence(tree, [".".join(keys) for keys in given])
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        problems += [_explain(whence, each) for each in _one_of_each_choice(tree, error.errors())]
        study = None
    problems += _paths(whence, folder)
    problems += _unwritable(study) if study is not None else []
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
        what = " ".join(str(error.problem or error.context).split())
        if "'\\t'" in what:
            raise KiyasError(f"{where}: YAML does not allow a tab here", "indent with spaces, two a level") from None
        raise KiyasError(f"{where}: {what}", BACK_SLASHES if "escape" in what else "") from None
    except RecursionError:
        raise KiyasError(f"{source}: not valid YAML: it is nested too deep") from None
    except (YAMLError, ValueError) as error:  # a date that is none is a ValueError
        if "set_int_max_str_digits" in str(error):
            raise KiyasError(f"{source}: a number has more than 4,300 digits") from None
        raise KiyasError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


BACK_SLASHES = "in double quotes a back-slash begins an escape: write single quotes, and paths with /"
ESCAPED = re.compile("[\x00-\x1f\x85\xa0\u2028\u2029]")
"""What a back-slash in double quotes makes, and no path has."""


KEY = r'"[^"]*"|[\w-]+'


def _keys(override: str) -> tuple[list[str], str]:
    """The keys of an override, from the outermost on, and its value; no keys where it is not an override.

    One with a dot in it, as a name may have, is in double quotes: arms."v1.5".fraction=0.5
    """
    found = re.match(f"((?:{KEY})(?:\\.(?:{KEY}))*)=", override)
    return ([key.strip('"') for key in re.findall(KEY, found[1])], override[found.end() :]) if found else ([], "")


BLANKS = re.compile(r"(?:^|\0)([^\0=]+)(?:\0=\0?|=\0(?![^\0]*=))([^\0]+)")
"""`seeds = 3`, `seeds =3` and `seeds= 3`, each a word of its own."""


def _refuse_blanks(overrides: list[str]) -> None:
    """Raises KiyasError for `seeds = 3`, which a shell hands over as three words."""
    if found := BLANKS.search("\0".join(overrides)):
        raise KiyasError(f"KEY=VALUE is written without blanks: {found[1]}={found[2]}")


def _override(tree: dict[str, Any], override: str) -> str | None:
    keys, value = _keys(override)
    if not keys:
        return f"{override!r}: an override looks like training.learning_rate=1e-4"
    *parents, last = keys
    node: Any = tree
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            return f"{override!r}: {parent} is not a section"
    node[last] = _yaml(value, f"override {'.'.join(keys)}")
    return None


def _make_room(tree: dict[str, Any], given: list[list[str]]) -> None:
    """A budget has one key: an override of another one replaces what is in the file."""
    for keys in given:
        if keys[-2:-1] == ["budget"] and isinstance(_at(tree, *keys[:-1]), dict):
            _at(tree, *keys[:-2])["budget"] = {}


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """Keywords as overrides: `seeds=2`, and dictionaries for sections, in which only the keys they hold are set.

    Raises KiyasError for what is neither a number, a text, a list nor a dictionary of those.
    """
    return [override for key, value in settings.items() for override in _set(key, value)]


def _set(key: str, value: Any) -> Iterator[str]:
    try:
        if isinstance(value, Mapping):
            for inner, each in value.items():
                name = str(inner)
                name = name if re.fullmatch(KEY, name) else f'"{name}"'
                yield from _set(f"{key}.{name}", each)
        else:
            yield f"{key}={_as_yaml(key, value)}"
    except RecursionError:
        raise KiyasError(f"{key:.80}: it is nested too deep") from None


AWAY = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
"""characters that YAML reads as others, or does not read, unless they are escaped"""


def _as_yaml(key: str, value: Any) -> str:
    def plain(each: Any) -> Any:
        """numpy's numbers and arrays know what they are in Python."""
        if isinstance(each, os.PathLike):
            return os.fsdecode(each)
        if hasattr(each, "tolist"):
            return each.tolist()
        raise KiyasError(
            f"{key}: a study file cannot hold a value of type {type(each).__name__}",
            "give a number, a text, a list or a dictionary",
        )

    try:
        text = json.dumps(value, ensure_ascii=False, default=plain)
    except (TypeError, ValueError) as error:  # keys that are none, and lists that hold themselves
        raise KiyasError(f"{key}: a study file cannot hold this: {error}") from None
    return AWAY.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@dataclass(frozen=True)
class _Whence:
    """Where a value was given: in which line of the file, or as an override."""

    tree: Any
    overrides: list[str]
    """their keys, with dots"""

    def __call__(self, location: tuple[Any, ...]) -> str:
        """`line 7: ` for the deepest part of the location that is in the file, or `override: `.

        Where only the whole of a section is wrong, an override inside it is named beside the line.
        """
        dotted = ".".join(map(str, location))
        above = [key for key in self.overrides if f"{dotted}.".startswith(f"{key}.")]
        below = [key for key in self.overrides if location and key.startswith(f"{dotted}.")]
        if above:
            return "override: "
        said = [self._line(location), *(f"override {key}" for key in below)]
        return f"{', '.join(filter(None, said))}: " if any(said) else ""

    def _line(self, location: tuple[Any, ...]) -> str:
        line, tree = None, self.tree
        for part in location:
            marks = getattr(tree, "lc", None)
            if marks is None or not marks.data or part not in marks.data:
                break
            line = marks.data[part][0] + 1
            tree = tree[part]
        return f"line {line}" if line else ""


def _holds(node: Any, part: Any) -> bool:
    if isinstance(node, list):
        return isinstance(part, int) and part < len(node)
    return isinstance(node, dict) and part in node


def _at(tree: Any, *location: Any) -> Any:
    """What stands there in the file; None where nothing does."""
    for part in location:
        if not _holds(tree, part):
            return None
        tree = tree[part]
    return tree


def _in_file(tree: Any, error: Any) -> tuple[Any, ...]:
    """Where an error is, as in the file: pydantic also names the member of a union ("int", "list[int]")."""
    location: tuple[Any, ...] = ()
    node: Any = tree
    for part in error["loc"]:
        if _holds(node, part):
            node = node[part]
            location = (*location, part)
        elif part == error["loc"][-1] and error["type"] == "missing":
            location = (*location, part)
    return location


def _one_of_each_choice(tree: Any, errors: list[Any]) -> list[Any]:
    """Where a value may be a number or a list, pydantic says what is wrong with it as each: one is the mistake.

    It is what is wrong with it as what it is.
    """
    choices: dict[tuple[Any, ...], dict[Any, list[Any]]] = {}
    for error in errors:
        at, node = 0, tree
        for part in error["loc"]:
            if not _holds(node, part):
                break
            at, node = at + 1, node[part]
        at = len(error["loc"]) if error["type"] == "missing" else at
        choices.setdefault(error["loc"][:at], {}).setdefault(error["loc"][at : at + 1], []).append(error)
    kept = []
    for members in choices.values():
        fit = [found for found in members.values() if not any(error["type"].endswith("_type") for error in found)]
        kept += (fit or list(members.values()))[0]
    return kept


def _explain(whence: _Whence, error: Any) -> str:
    location = _in_file(whence.tree, error)
    message = error["msg"].removeprefix("Value error, ")
    # What only the whole study can find begins with the key.
    named = re.match(r"([\w-]+(?:\.[\w-]+)*): ", message) if not location else None
    if named and _holds(whence.tree, named[1].split(".")[0]):
        location, message = tuple(named[1].split(".")), message[named.end() :]
    dotted = ".".join(map(str, location)) or "study"
    where = whence(location)
    if error["type"] == "extra_forbidden":
        return f"{where}unknown key {dotted}{_suggest(error['loc'])}"
    if error["type"] == "missing":
        return f"{where}{dotted} is missing"
    if error["type"] == "string_pattern_mismatch":
        message = PATTERNS[error["ctx"]["pattern"]]
    given = error.get("input")
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{where}{dotted}: {message}{shown}"


def _suggest(location: tuple[Any, ...]) -> str:
    key = str(location[-1])
    section: type[Section] | None = Study
    for part in location[:-1]:
        field = section.model_fields.get(part) if section else None
        section = _model_in(field.annotation) if field else Arm if section is None else section
    keys = [field.alias or name for name, field in section.model_fields.items()] if section else []
    for name, field in Study.model_fields.items():
        model = _model_in(field.annotation)
        if model and key in model.model_fields:
            return f"; it belongs under {name}:"
    if close := did_you_mean(key, keys):
        return close
    if key in GONE:
        return f"; {GONE[key]}"
    if key in KNOWN_ELSEWHERE:
        return f"; here it is called {KNOWN_ELSEWHERE[key]}"
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


def _unwritable(study: Study) -> list[str]:
    """Texts with half of a surrogate pair, which no file can hold and no tokenizer can read."""
    texts = {key: as_text(value) for key, value in flat(study.model_dump()).items()}
    return [
        f"{key}: half of a surrogate pair (\\ud800 to \\udfff) is not text"
        for key, text in texts.items()
        if any("\ud800" <= character <= "\udfff" for character in text)
    ]


def _paths(whence: _Whence, folder: Path) -> list[str]:
    """One message for every file that the study names and that is not there."""
    tree = whence.tree
    named: list[tuple[tuple[Any, ...], str]] = [(("model_name_or_path",), "model folder")]
    arms, also = _at(tree, "arms"), _at(tree, "benchmarks", "also")
    if isinstance(arms, dict):
        named += [(("arms", arm, "dataset_name"), "data file") for arm in arms]
        named += [(("arms", arm, "checkpoints"), "folder of checkpoints") for arm in arms]
        named += [(("arms", arm, "model"), "model folder") for arm in arms]
    named.append((("benchmarks", "primary", "dataset"), "problems file"))
    for number, each in enumerate(also if isinstance(also, list) else []):
        at = ("benchmarks", "also", number)
        named.append((at if isinstance(each, str) else (*at, "dataset"), "problems file"))
    found = []
    for location, what in named:
        value, built_in = _at(tree, *location), PRACTICE_DATASETS if location[0] == "arms" else (PRACTICE,)
        if not isinstance(value, str) or value in built_in:
            continue
        if location[0] == "benchmarks" and benchmark_name(value) in HUB_BENCHMARKS and not (folder / value).exists():
            continue
        dotted = ".".join(map(str, location))
        where = whence(location)
        try:
            path = folder / Path(value).expanduser()
            path.stat()
        except FileNotFoundError:
            pass  # it may be a name on the Hub
        except (OSError, RuntimeError, ValueError) as error:
            found.append(f"{where}{dotted}: cannot read {value[:80]!r}: {getattr(error, 'strerror', None) or error}")
            continue
        if is_builtin(value):
            hint = f"it has {', '.join(built_in)}" if location[0] == "arms" else f"write just {PRACTICE}"
            found.append(f"{where}{dotted}: no {value!r} in the practice world; {hint}")
        elif is_hub_id(value) and not path.exists() and location[-1] in ("model_name_or_path", "dataset_name"):
            continue
        elif not path.exists():
            names = f"; known by name: {', '.join(HUB_BENCHMARKS)}" if location[0] == "benchmarks" else ""
            shown, slashes = _back_slashes(value, folder)
            found.append(f"{where}{dotted}: no {what} {shown} (looked in {folder}){names}{slashes}")
        elif location[-1] in ("model_name_or_path", "model") and not (path / "config.json").is_file():
            found.append(f"{where}{dotted}: {value!r} holds no config.json, so it is not a model folder")
        elif location[-1] == "checkpoints" and not path.is_dir():
            found.append(f"{where}{dotted}: {value!r} is a file; give the folder")
        elif location[-1] not in ("model_name_or_path", "checkpoints", "model") and not path.is_file():
            what = "a folder" if path.is_dir() else "not a regular file"
            found.append(f"{where}{dotted}: {value!r} is {what}; give a file")
    python = _at(tree, "judge", "python")
    if isinstance(python, str) and shutil.which(python) is None:
        found.append(f"{whence(('judge', 'python'))}judge.python: no such interpreter here (got {python!r})")
    return found


def _back_slashes(value: str, folder: Path) -> tuple[str, str]:
    """A path that is not there as the file has it, and what to do about the back-slashes in it."""
    if ESCAPED.search(value):
        return repr(value), f"; {BACK_SLASHES}"
    if "\\" not in value:
        return repr(value), ""
    slashed = value.replace("\\", "/")
    there = (folder / slashed).exists()
    return f"'{value}'", f"; write the path with /{f': {slashed} is there' if there else ''}"


def _absolute(study: Study, folder: Path) -> Study:
    def full(name: str) -> str:
        path = (folder / Path(name).expanduser()).resolve()
        elsewhere = (is_hub_id(name) or name in HUB_BENCHMARKS) and not path.exists()
        return name if is_builtin(name) or elsewhere else str(path)

    def places(arm: Arm) -> dict[str, str | None]:
        given = {"checkpoints": arm.checkpoints, "model": arm.model}
        found = {key: path and str((folder / Path(path).expanduser()).resolve()) for key, path in given.items()}
        return {"dataset_name": arm.dataset_name and full(arm.dataset_name), **found}

    def benchmark(each: Benchmark) -> Benchmark:
        return each.model_copy(update={"dataset": full(each.dataset)})

    return study.model_copy(
        update={
            "model_name_or_path": full(study.model_name_or_path),
            "arms": {name: arm.model_copy(update=places(arm)) for name, arm in study.arms.items()},
            "benchmarks": study.benchmarks.each(benchmark),
            "store": study.store and str((folder / Path(study.store).expanduser()).resolve()),
        }
    )
