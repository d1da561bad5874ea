"""What `kiyas verify` does: every file of a run folder against the digest that was noted when it was made."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kiyas.judge.terminal import many
from kiyas.pipeline.identity import model_facts
from kiyas.runfolder import manifests
from kiyas.runfolder.files import sha256
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Record, read_record


@dataclass(frozen=True)
class Verified:
    """What was found in a run folder."""

    damaged: list[dict[str, str]]
    """file, what, hint"""
    files: int
    """that are known by a digest"""
    stages: list[Stage]
    """finished ones, of whose files the digests are known"""
    unfinished: list[Stage]
    unknown: list[Stage]
    """finished by a version that noted no digests"""
    accepted: list[str]
    study_file: str | None
    """what is wrong with study.yaml"""
    models: list[str]
    done: list[str]
    """what was accepted or restored just now"""

    @property
    def sound(self) -> bool:
        return not self.damaged and self.study_file is None

    def to_json(self) -> dict[str, Any]:
        return {"sound": self.sound, **asdict(self)}

    def __str__(self) -> str:
        lines = [*self.done]
        for each in self.damaged:
            lines += [f"{each['file']} {each['what']}", f"  hint: {each['hint']}"]
        lines += [self.study_file] if self.study_file else []
        if self.unfinished:
            lines.append(f"not finished: {', '.join(self.unfinished)}")
        if self.unknown:
            lines.append(
                f"{', '.join(self.unknown)}: made by a version that noted no digests; nothing is known of these files"
            )
        lines += [*self.accepted, *self.models]
        lines.append(
            f"not as written: {len(self.damaged)} of {self.files} files"
            if self.damaged
            else f"as they were written: {many(self.files, 'file')} of {many(len(self.stages), 'finished stage')}"
        )
        return "\n".join(lines)


def verify(folder: RunDir, *, accepted: str | None = None, reason: str = "", restore: bool = False) -> Verified:
    """Compares every file. `accepted`: a file to take as it is, for this reason.

    Raises KiyasError for a folder that is no run folder, and for a manifest that cannot be read.
    """
    done = []
    if restore:
        with folder.lock():
            done.append(f"{folder.resolved} is restored as it was after the stage {manifests.restore(folder)}")
    if accepted is not None:
        with folder.lock():
            taken = manifests.accept(folder, _name(folder, accepted), reason)
        done.append(f"accepted: {taken.file}; the report says so. {_going_on(folder, taken.file)}")
    found = manifests.damages(folder, whole=True)
    hints = [{"file": str(each.path), "what": each.what, "hint": manifests.mend(folder, each)} for each in found]
    record = read_record(folder)
    written = record.study_file_sha256
    known = {stage: made for stage in Stage if (made := manifests.outputs(folder, stage)) is not None}
    return Verified(
        hints,
        sum(map(len, known.values())),
        list(known),
        [stage for stage in Stage if folder.manifest(stage) is None],
        [stage for stage in Stage if folder.manifest(stage) is not None and stage not in known],
        [f"accepted on {each.when}: {each.file} ({each.reason})" for each in record.accepted],
        _other_study(folder) if written and not _has_digest(folder.study_copy, written) else None,
        _models(record),
        done,
    )


def _has_digest(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


def _other_study(folder: RunDir) -> str:
    return (
        f"{folder.study_copy} is not the study file that the run was started with; what counts is "
        f"{folder.resolved.name}\n  hint: restore it from a copy, or from the file that it was: kiyas run STUDY"
    )


def _going_on(folder: RunDir, name: str) -> str:
    """What stages that had read an accepted file before make of it."""
    read = [stage for stage in Stage if any(name.startswith(each) for each in manifests.READS[stage])]
    used = next((each for each in read if each not in manifests.REMADE and folder.stage(each).exists()), None)
    if used is None:
        return "`kiyas run` or `kiyas report` goes on"
    again = f"`kiyas run STUDY --redo {used}` does it again"
    return f"The stage {used} had read it as it was: `kiyas report` keeps that, {again}"


def _name(folder: RunDir, given: str) -> str:
    """A file's name in the run folder: given from here, or already so."""
    inside = os.path.relpath(Path(given).absolute(), folder.root.absolute())
    return given if inside.startswith("..") else Path(inside).as_posix()


def _models(record: Record) -> list[str]:
    """Whether the models are still what they were, where they lie in a folder of this machine."""
    lines = []
    for facts in filter(None, [record.base, *record.models.values()]):
        root = Path(facts.name_or_path)
        if facts.files is not None and root.is_absolute() and root.is_dir():  # a name, as on the Hub, is no folder here
            same = facts.same_as(model_facts(root, facts.name_or_path))
            lines.append(f"{root}: {'as it was' if same else 'not the model that the run was started with'}")
    return lines
