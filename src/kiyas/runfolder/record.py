"""`resolved.json`: which study a run folder belongs to, and with what it was made.

Written by runs and by imports, read by everyone. What an import does not know is None.
"""

from __future__ import annotations

import difflib
import platform
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kiyas.judge.types import Mode, Tier
from kiyas.judge.version import VERSION
from kiyas.runfolder.files import digest, how_to_mend, read_sealed, sha256, write_sealed
from kiyas.runfolder.paths import RunDir
from kiyas.study.file import load, read
from kiyas.study.settings import Arm, Compare, Dtype, Report, Study
from kiyas.types import KiyasError


class Kind(StrEnum):
    """Who made the run folder: `kiyas run` or `kiyas import`."""

    RUN = "run"
    IMPORT = "import"


class _Part(BaseModel):
    # What a later version records is kept when the file is written again.
    model_config = ConfigDict(extra="allow", frozen=True)


class FileFacts(_Part):
    """A file's size, time and digest."""

    bytes: int
    mtime_ns: int
    sha256: str


class BaseModelFacts(_Part):
    """A model: its name, the number of its weights, and what tells it from another one."""

    name_or_path: str
    parameters: int | None = None
    fingerprint: str | None = None
    """of the sizes and ends of its files: all that 0.1.0 knew"""
    files: Mapping[str, FileFacts] | None = None
    """every file that its answers depend on, by name; None up to 0.1.0"""

    @property
    def digests(self) -> dict[str, str] | None:
        return {name: each.sha256 for name, each in self.files.items()} if self.files is not None else None

    def same_as(self, other: BaseModelFacts) -> bool:
        """Is it the same model, as far as both know their files?"""
        if self.name_or_path != other.name_or_path:
            return False
        if self.digests is None or other.digests is None:
            return self.fingerprint == other.fingerprint
        return self.digests == other.digests


class JudgeFacts(_Part):
    """How the programs were run and compared."""

    tier: Tier
    mode: Mode


class Accepted(_Part):
    """A change of a file by hand that was accepted (`kiyas verify --accept`)."""

    file: str
    stage: str | None
    """that made it; None: resolved.json"""
    reason: str
    when: str


class Begun(_Part):
    """A stage, and digests of what it read when it was begun."""

    stage: str
    inputs: Mapping[str, str]


FORMAT = 2
"""of run folders: 1 up to 0.1.0, without digests of what a stage made"""


class Record(_Part):
    """The whole of `resolved.json`."""

    kind: Kind
    name: str
    format: int = 1
    """of the run folder; a new one gets `FORMAT`"""
    run_id: str = ""
    """of this run folder and its copies: files of another one are noticed"""
    created: str = Field(default_factory=lambda: utc_now())
    kiyas_version: str = VERSION
    python: str = Field(default_factory=platform.python_version)
    platform: str = Field(default_factory=platform.platform)
    packages: Mapping[str, str] = {}
    git: str | None = None
    study: Study | None = None
    """with all defaults; None in an import"""
    study_file_sha256: str | None = None
    """of study.yaml; None where the study was not given as a file, and up to 0.1.0"""
    study_folder: str | None = None
    """where the relative paths in it start; None as above"""
    declared_sha256: str | None = None
    """of the section `compare`, stamped when the run started"""
    base: BaseModelFacts | None = None
    models: Mapping[str, BaseModelFacts] = {}
    """of arms that are whole models, by arm"""
    judge: JudgeFacts | None = None
    device: str | None = None
    float32_modules: tuple[str, ...] | None = None
    """in float16: what of the base computes in float32, since its values leave float16's range; None: not probed"""
    dtype: Dtype | None = None
    """the base's number format: chosen when training starts, the same to the end; None before, and up to 0.1.0"""
    tuning_seeds: int = Field(default=0, ge=0)
    """in runs with a grid up to 0.1.0: so many seeds after the study's own were trained only to choose the rate"""
    overrides: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """what was unusual, in words, for the report"""
    accepted: tuple[Accepted, ...] = ()
    holds: tuple[str, ...] = ()
    """the stages of an import, which makes them all at once"""
    begun: Begun | None = None
    """the stage that was begun last"""

    @property
    def language(self) -> str:
        """Of the report's files with plain names: the study's, and of an import that of a study which names none."""
        return (self.study.report if self.study else Report()).language

    @model_validator(mode="before")
    @classmethod
    def _older(cls, value: Any) -> Any:
        """Up to 0.1.0 the number of tuning seeds was a setting of the study."""
        try:
            rest = dict(value["study"]["training"])
            count = rest.pop("tuning_seeds")
        except (KeyError, TypeError, ValueError):
            return value  # not of that time, or edited: then the fields say what is wrong
        grid = "learning_rate" in rest and isinstance(rest["learning_rate"], list)
        return {**value, "study": {**value["study"], "training": rest}, "tuning_seeds": count if grid else 0}

    @property
    def former_tuning_seeds(self) -> set[int]:
        """Seeds that were trained only to choose a learning rate, which each seed now does for itself."""
        first = max(self.study.seed_list) + 1 if self.study else 0
        return set(range(first, first + self.tuning_seeds))

    @property
    def arms(self) -> Mapping[str, Arm]:
        """The study's arms; none in an import."""
        return self.study.arms if self.study else {}

    @property
    def compare(self) -> Compare:
        """What was declared; in an import nothing was, and the defaults hold."""
        return self.study.compare if self.study else Compare()

    @property
    def declared_before(self) -> bool | None:
        """Is `compare` what was declared when the run started? None where no declaration was stamped."""
        if self.study is None or self.declared_sha256 is None:
            return None
        # Only the keys that were written: a later version may know more of them.
        return digest(_declaration(self.study.compare, exclude_unset=True)) == self.declared_sha256


def new_id() -> str:
    """For a new run folder."""
    return uuid.uuid4().hex


def utc_now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def declared(study: Study) -> str:
    """The digest of what the study declares."""
    return digest(_declaration(study.compare))


LATER = ("metric",)
"""keys of `compare` that 0.1.0 did not know"""


def _declaration(compare: Compare, *, exclude_unset: bool = False) -> dict[str, Any]:
    """What is declared. A later key at its default declares nothing: a record that is written again has it too."""
    declared = compare.model_dump(mode="json", exclude_unset=exclude_unset)
    return {k: v for k, v in declared.items() if k not in LATER or v != Compare.model_fields[k].default}


def meant_run(path: Path) -> str:
    """`; did you mean runs/mine?`, where a run folder of such a name lies in the same folder or in runs/."""
    if path.exists():
        return ""
    for root in (Path("runs"), path.parent):
        names = sorted(each.parent.name for each in root.glob(f"*/{RunDir(path).resolved.name}"))
        close = [path.name] if path.name in names else difflib.get_close_matches(path.name, names, 1, 0.7)
        if close:
            return f"; did you mean {root / close[0]}?"
    return ""


def read_record(folder: RunDir) -> Record:
    """Raises KiyasError when there is no record, or none that this version reads."""
    if not folder.resolved.exists():
        if folder.is_begun:
            raise KiyasError(f"{folder.resolved} is missing", how_to_mend(folder.resolved))
        if meant := meant_run(folder.root):
            raise KiyasError(f"{folder.root} is not a run folder{meant}")
        raise KiyasError(f"{folder.root} is not a run folder: no such file as {folder.resolved.name} in it")
    return parse(folder.resolved, read_sealed(folder.resolved))


def parse(path: Path, value: Any) -> Record:
    """The record that a file holds. Raises KiyasError for one that this version does not read."""
    unknown = {"created": "", "kiyas_version": "", "python": "", "platform": ""}
    later = value["format"] if isinstance(value, dict) and "format" in value else 1
    if isinstance(later, int) and later > FORMAT:
        raise KiyasError(
            f"{path.parent} was made by a later version of Kıyas (run folder format {later}; this one reads {FORMAT})",
            "pip install --upgrade kiyas",
        )
    try:
        return Record.model_validate({**unknown, **value} if isinstance(value, dict) else value)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors()[:3]
        )
        raise KiyasError(
            f"{path} is not a record that this version reads: {wrong}",
            "was it edited, or made by another version of Kıyas? Restore it, or run the study into a new folder",
        ) from error


@dataclass(frozen=True)
class Given:
    """A study as a command was given it."""

    study: Study
    file: Path
    """the study file"""
    folder: RunDir | None
    """the run that it goes on with; None where the study's name decides"""


def given_study(path: Path, overrides: list[str]) -> Given:
    """Reads a study file; or of a run folder, and of the study file that was copied into it, the study of that run.

    That one has the run's own overrides, unless the copy was edited. Its paths start where the run was started. Raises
    KiyasError.
    """
    folder = RunDir(path if path.is_dir() else path.parent)
    if not folder.resolved.exists() or not (path.is_dir() or path.name == folder.study_copy.name):
        if meant := meant_run(path):
            raise KiyasError(f"no study file {path}{meant}")
        return Given(load(path, overrides), path, None)
    record = read_record(folder)
    if record.study is None:  # an import: its study file is there to be run, and says where the files are
        return Given(load(folder.study_copy, overrides), folder.study_copy, None)
    if not path.is_dir() and sha256(path) != record.study_file_sha256:
        study = load(path, overrides, paths_start(path))
        return Given(study, path, folder if study.name == record.name else None)
    tree = record.study.model_dump(mode="json", by_alias=True, exclude_none=True)
    study = read(tree, str(folder.resolved), folder.root.resolve(), overrides)
    return Given(study, folder.study_copy, folder if study.name == record.name else None)


def paths_start(file: Path) -> Path:
    """Where the relative paths in a study file start: in its folder; of a run folder's copy, where the original was."""
    folder = RunDir(file.parent)
    if file.name == folder.study_copy.name and folder.resolved.exists() and (known := read_record(folder).study_folder):
        return Path(known)
    return file.resolve().parent


def float32_modules(folder: RunDir, study: Study) -> tuple[str, ...] | None:
    """What of a float16 base computes in float32 in this run; None where that is not known or does not arise."""
    return read_record(folder).float32_modules if study.training.dtype is Dtype.FLOAT16 else None


def write_record(folder: RunDir, record: Record) -> None:
    """Writes the record, whole or not at all."""
    write_sealed(folder.resolved, record.model_dump(mode="json"))
