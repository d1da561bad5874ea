"""What each stage made, by digest: written when a stage ends, checked by whatever reads it later.

A stage's `manifest.json` names every file that the stage made, with its size, time and digest, and holds the record
(`resolved.json`) as it was, so that a lost one can be restored. A later stage, `report`, `compare` and `status` check
the files that they read; `kiyas verify` checks all. Files of `LARGE` bytes or more are read only where their size or
time differs, except by `verify`.

Folders of 0.1.0 have no such digests: nothing is known of their files, and nothing is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiyas.judge.version import VERSION
from kiyas.runfolder.files import (
    ChangedError,
    is_confirmed,
    refuse_not_a_file,
    seal_of,
    seal_rows,
    sha256,
    unsealed,
    write_sealed,
)
from kiyas.runfolder.litter import remove
from kiyas.runfolder.paths import AUTHORS, MANIFEST, RunDir, Stage
from kiyas.runfolder.record import Accepted, Kind, Record, parse, read_record, utc_now, write_record
from kiyas.types import KiyasError

LARGE = 256 * 2**20
CHECKPOINTS = "train/checkpoints/"

READS: dict[Stage, tuple[str, ...]] = {
    Stage.DATA: (),
    Stage.TRAIN: ("data/",),
    Stage.GENERATE: ("data/problems.jsonl", CHECKPOINTS),
    Stage.JUDGE: ("data/problems.jsonl", "generate/"),
    Stage.ANALYSE: ("data/", "train/log.jsonl", "generate/", "judge/"),
    Stage.REPORT: ("analyse/",),
}
"""What each stage reads of what earlier ones made: files, and everything below folders."""
EVERYTHING = tuple(f"{stage}/" for stage in Stage)
REMADE = (Stage.ANALYSE, Stage.REPORT)
"""Stages that cost next to nothing: where a file of theirs is damaged they are done again."""


@dataclass(frozen=True)
class Damage:
    """A file of a run folder that is not what the stage that made it wrote."""

    path: Path
    stage: Stage
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


def finish(folder: RunDir, stage: Stage, inputs: dict[str, str], counts: dict[str, Any], seconds: float) -> None:
    """Declares a stage finished: writes its manifest, last. What was needed to go on is removed after that."""
    _write(
        folder,
        stage,
        {
            "stage": stage.value,
            "inputs": inputs,
            "outputs": {name: _facts(folder.root / name) for name in _made(folder, stage)},
            "counts": counts,
            "seconds": round(seconds, 2),
            "kiyas_version": VERSION,
            "after": [each.value for each in Stage if each not in stage.later and folder.manifest(each) is not None],
        },
    )
    tidy(folder, stage)


def tidy(folder: RunDir, stage: Stage) -> None:
    """Removes what only an unfinished stage needs: its state, and the seals of files that grew."""
    for path in (folder.stage(stage) / "state", *folder.stage(stage).glob(".*.seal")):
        remove(path)


def _write(folder: RunDir, stage: Stage, manifest: dict[str, Any]) -> None:
    write_sealed(folder.manifest_path(stage), {**manifest, "record": read_record(folder).model_dump(mode="json")})


def _made(folder: RunDir, stage: Stage) -> list[str]:
    """The files of a finished stage. What a report's reader writes into report.md is not ours."""
    root = folder.stage(stage)
    found = (path.relative_to(folder.root) for path in sorted(root.rglob("*")) if path.is_file())
    return [
        path.as_posix()
        for path in found
        if not any(part.startswith(".") for part in path.parts)
        and path.parts[1] not in ("manifest.json", "state")
        and path.suffix != ".changed"
        and not (stage is Stage.REPORT and AUTHORS.match(path.name))
    ]


def _facts(path: Path) -> dict[str, Any]:
    found = path.stat()
    return {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": sha256(path)}


def outputs(folder: RunDir, stage: Stage) -> dict[str, dict[str, Any]] | None:
    """What a finished stage made: size, time and digest by name; None where that is not known."""
    manifest = folder.manifest(stage)
    return None if manifest is None or "outputs" not in manifest else dict(manifest["outputs"])


def digest_of(folder: RunDir, path: Path) -> str:
    """The digest of a file: as the stage that made it noted it, or read anew where none is noted."""
    if not path.is_relative_to(folder.root):
        return sha256(path)
    name = path.relative_to(folder.root)
    known = outputs(folder, Stage(name.parts[0])) if len(name.parts) > 1 else None
    return str(known[name.as_posix()]["sha256"]) if known and name.as_posix() in known else sha256(path)


def damages(folder: RunDir, read: Iterable[str] = EVERYTHING, *, whole: bool = False) -> list[Damage]:
    """The files, of those that `read` names as `READS` does, that are not what their stage wrote.

    `whole`: large files are read, too, whatever their size and time say. Raises KiyasError for a damaged manifest.
    """
    record, wanted = read_record(folder), tuple(read)
    asked = [stage for stage in Stage if any(name.startswith(f"{stage}/") for name in wanted)]
    manifests = {stage: _manifest(folder, stage, asked) for stage in Stage}
    before = _finished_before(manifests.values(), record)
    found: list[Damage] = []
    for stage in asked:
        manifest, path = manifests[stage], folder.manifest_path(stage)
        if manifest is None:
            if stage in before:
                what = "the import is not whole" if record.holds else "a later stage is finished"
                found.append(Damage(path, stage, f"is missing, and {what}"))
            found += [
                Damage(each, stage, "was changed, cut or damaged while the stage is not finished")
                for each in _growing(folder, stage)
                if (record.format > 1 or seal_of(each).exists()) and not is_confirmed(each)
            ]
        elif "outputs" not in manifest:
            if record.format > 1:
                found.append(Damage(path, stage, "does not say what the stage made"))
        elif manifest["record"]["run_id"] != record.run_id:
            found.append(Damage(path, stage, f"is of another run than {folder.resolved.name}"))
        elif other := _other_inputs(manifest, manifests.values(), record):
            found.append(Damage(path, stage, f"says that the stage read another {other} than is here"))
        else:
            found += _of_stage(folder, stage, manifest["outputs"], wanted, whole)
    return found


def _finished_before(manifests: Iterable[dict[str, Any] | None], record: Record) -> set[str]:
    """The stages that were finished once, as later manifests say, or an import's record."""
    return {name for each in manifests if each and "after" in each for name in each["after"]} | set(record.holds)


def is_lost(folder: RunDir, stage: Stage) -> bool:
    """Was the stage finished, and its manifest is gone?"""
    known = (_manifest(folder, each, []) for each in Stage)
    return folder.manifest(stage) is None and stage.value in _finished_before(known, read_record(folder))


def _growing(folder: RunDir, stage: Stage) -> list[Path]:
    """Files that grow under their own names: those of other stages are written whole."""
    return sorted(folder.stage(stage).glob("*.jsonl")) if stage is Stage.JUDGE else []


def _other_inputs(manifest: dict[str, Any], all: Iterable[dict[str, Any] | None], record: Record) -> str:
    """A file that a stage read and that is another one now, as in a folder put together from two copies of a run.

    A change that was accepted is none.
    """
    made = {name: facts for each in all if each and "outputs" in each for name, facts in each["outputs"].items()}
    accepted = {each.file for each in record.accepted}
    return next(
        (
            name
            for name, sha in manifest["inputs"].items()
            if name in made and name not in accepted and made[name]["sha256"] != sha
        ),
        "",
    )


def _manifest(folder: RunDir, stage: Stage, asked: list[Stage]) -> dict[str, Any] | None:
    """Damage to that of findings or report is the concern of those who ask for them alone."""
    try:
        return folder.manifest(stage)
    except ChangedError:
        if stage in REMADE and stage not in asked:
            return None
        raise


def _of_stage(
    folder: RunDir, stage: Stage, made: dict[str, dict[str, Any]], wanted: tuple[str, ...], whole: bool
) -> list[Damage]:
    found = []
    for name, facts in made.items():
        if _named(name, wanted) and (what := _wrong(folder.root / name, facts, whole)):
            found.append(Damage(folder.root / name, stage, what))
    # Whatever lies among the checkpoints answers.
    strangers = [name for name in _made(folder, stage) if name not in made and name.startswith(CHECKPOINTS)]
    found += [
        Damage(folder.root / name, stage, "was not made by this run") for name in strangers if _named(name, wanted)
    ]
    return found


def _named(name: str, wanted: tuple[str, ...]) -> bool:
    return any(name == each or (each.endswith("/") and name.startswith(each)) for each in wanted)


def _wrong(path: Path, facts: dict[str, Any], whole: bool) -> str:
    if not path.is_file():
        return "is missing" if not path.exists() else "is not a file any more"
    now = path.stat()
    if now.st_size != facts["bytes"]:
        return f"was changed or cut: {now.st_size:,} bytes instead of {facts['bytes']:,}"
    trusted = not whole and now.st_size >= LARGE and now.st_mtime_ns == facts["mtime_ns"]
    return "" if trusted or sha256(path) == facts["sha256"] else "was changed or damaged"


def refuse(folder: RunDir, read: Iterable[str]) -> None:
    """Raises KiyasError for the first file, of those that `read` names, that is not what its stage wrote."""
    if found := damages(folder, read):
        more = f" ({len(found) - 1} more: `kiyas verify {folder.root}`)" if len(found) > 1 else ""
        raise KiyasError(f"{found[0]}{more}", mend(folder, found[0]))


def mend(folder: RunDir, damage: Damage) -> str:
    """What to do about a file, by the stage that made it."""
    again = f"make it again: kiyas run STUDY --redo {damage.stage}"
    if read_record(folder).kind is Kind.IMPORT:
        again = f"import again: kiyas import … --out {folder.root}"
    name = damage.path.relative_to(folder.root).as_posix()
    if damage.stage in REMADE or (damage.path.name == MANIFEST and not damage.path.exists()):
        return f"restore it from a copy, or {again}"
    return (
        f"restore it from a copy, or {again}; "
        f"if the change is meant: kiyas verify {folder.root} --accept {name} --reason TEXT"
    )


def accept(folder: RunDir, name: str, reason: str) -> Accepted:
    """Takes a file as it is now (or its absence) for what its stage made, and notes that for the report.

    `name`: relative to the run folder. Raises KiyasError where there is nothing to accept.
    """
    path = folder.root / name
    if path.exists():
        refuse_not_a_file(path)
    if path == folder.resolved and not _is_sound(folder):
        return _noted(folder, parse(path, unsealed(path)), None, name, reason)
    stage = next((each for each in Stage if path == folder.manifest_path(each)), None)
    if stage in REMADE or Path(name).parts[0] in REMADE:
        raise KiyasError(
            f"{path}: findings and report are not accepted, they are made again", f"kiyas report {folder.root}"
        )
    if stage is not None and path.exists():
        manifest = _of_these_inputs(folder, folder.checked(stage, unsealed(path)))
        done = _noted(folder, read_record(folder), stage, name, reason)
        _write(folder, stage, manifest)
        return done
    damage = next((each for each in damages(folder, whole=True) if each.path == path), None)
    if damage is None or stage is not None:
        raise KiyasError(f"{path}: there is no change that could be accepted", f"see kiyas verify {folder.root}")
    done = _noted(folder, read_record(folder), damage.stage, name, reason)
    known = folder.manifest(damage.stage)
    if known is not None:
        made = {key: facts for key, facts in known["outputs"].items() if key != name}
        if path.exists():
            made[name] = _facts(path)
        _write(folder, damage.stage, {**known, "outputs": dict(sorted(made.items()))})
    elif path.exists():
        seal_rows(path)
    return done


def _of_these_inputs(folder: RunDir, manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest that takes the files that are here for those that its stage read."""
    made = {name: facts["sha256"] for stage in Stage for name, facts in (outputs(folder, stage) or {}).items()}
    return {**manifest, "inputs": {name: made.get(name, sha) for name, sha in manifest["inputs"].items()}}


def _noted(folder: RunDir, record: Record, stage: Stage | None, name: str, reason: str) -> Accepted:
    """Notes a change in the record before the change is taken: a kill in between accepts nothing unseen."""
    done = Accepted(file=name, stage=stage.value if stage else None, reason=reason, when=utc_now())
    write_record(folder, record.model_copy(update={"accepted": (*record.accepted, done)}))
    return done


def forget_accepted(folder: RunDir, dropped: Iterable[Stage]) -> Record:
    """What was accepted in stages that are made again is in no finding any more. Returns the record."""
    record, again = read_record(folder), tuple(dropped)
    kept = tuple(each for each in record.accepted if each.stage not in again)
    if kept != record.accepted:
        record = record.model_copy(update={"accepted": kept})
        write_record(folder, record)
    return record


def _is_sound(folder: RunDir) -> bool:
    try:
        read_record(folder)
    except KiyasError:
        return False
    return True


def _remembered(folder: RunDir, stage: Stage) -> Record | None:
    """The record as a stage's manifest holds it; None without one, and where the manifest is damaged."""
    try:
        manifest = folder.manifest(stage)
        return parse(folder.manifest_path(stage), manifest["record"]) if manifest and "record" in manifest else None
    except KiyasError:
        return None


def restore(folder: RunDir) -> Stage:
    """Writes resolved.json again as the last finished stage knew it, with every change that was accepted in any stage;
    returns that stage.

    Raises KiyasError where no stage is finished, and where the record is as it was written.
    """
    if _is_sound(folder):
        raise KiyasError(f"{folder.resolved} is as it was written: there is nothing to restore")
    known = [(stage, record) for stage in Stage if (record := _remembered(folder, stage)) is not None]
    if known:
        stage, record = known[-1]
        accepted = dict.fromkeys(each for _, of_stage in known for each in of_stage.accepted)
        if folder.resolved.is_dir():
            remove(folder.resolved)
        write_record(
            folder, record.model_copy(update={"accepted": tuple(sorted(accepted, key=lambda each: each.when))})
        )
        return stage
    raise KiyasError(
        f"{folder.root}: no finished stage remembers what {folder.resolved.name} held",
        "restore it from a copy, or remove the folder and run the study again",
    )
