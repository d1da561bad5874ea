"""What `kiyas verify` does: every file of a run folder against the digest that was noted when it was made."""

from __future__ import annotations

import os
from pathlib import Path

from kiyas.judge.terminal import many
from kiyas.pipeline.identity import model_facts
from kiyas.runfolder import manifests
from kiyas.runfolder.files import sha256
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Record, read_record


def verify(folder: RunDir, *, accepted: str | None = None, reason: str = "", restore: bool = False) -> tuple[str, bool]:
    """What is to be said, and whether every file is sound. `accepted`: a file to take as it is, for this reason.

    Raises KiyasError for a folder that is no run folder, and for a manifest that cannot be read.
    """
    lines = []
    if restore:
        with folder.lock():
            lines.append(f"{folder.resolved} is restored as it was after the stage {manifests.restore(folder)}")
    if accepted is not None:
        with folder.lock():
            done = manifests.accept(folder, _name(folder, accepted), reason)
        lines.append(f"accepted: {done.file}; the report says so. {_going_on(folder, done.file)}")
    found = manifests.damages(folder, whole=True)
    for each in found:
        lines += [str(each), f"  hint: {manifests.mend(folder, each)}"]
    record = read_record(folder)
    written = record.study_file_sha256
    other_study = written is not None and (not folder.study_copy.is_file() or sha256(folder.study_copy) != written)
    if other_study:
        lines.append(
            f"{folder.study_copy} is not the study file that the run was started with; what counts is "
            f"{folder.resolved.name}\n  hint: restore it from a copy, or from the file that it was: kiyas run STUDY"
        )
    known = {stage: made for stage in Stage if (made := manifests.outputs(folder, stage)) is not None}
    if unfinished := [stage for stage in Stage if folder.manifest(stage) is None]:
        lines.append(f"not finished: {', '.join(unfinished)}")
    if unknown := [stage for stage in Stage if folder.manifest(stage) is not None and stage not in known]:
        lines.append(f"{', '.join(unknown)}: made by a version that noted no digests; nothing is known of these files")
    lines += [f"accepted on {each.when}: {each.file} ({each.reason})" for each in record.accepted]
    lines += _models(record)
    count = sum(map(len, known.values()))
    lines.append(
        f"not as written: {len(found)} of {count} files"
        if found
        else f"as they were written: {many(count, 'file')} of {many(len(known), 'finished stage')}"
    )
    return "\n".join(lines), not found and not other_study


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
