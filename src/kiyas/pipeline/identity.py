"""Which study a run folder belongs to: stamped when it starts, checked whenever it is opened again.

A changed study file, base, data file or result is never mixed with work that was done with another one: it is
refused, with the stage to do again. What was declared before there were results is kept with its digest.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import math
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kiyas.analyse.findings import FORMAT as FINDINGS_FORMAT
from kiyas.data import hub
from kiyas.interop import adapters
from kiyas.judge.tiers import choose, probe_tier
from kiyas.judge.types import Isolation, SandboxError, Tier
from kiyas.judge.version import VERSION
from kiyas.pipeline import git
from kiyas.runfolder.files import atomic_text, digest, seal_of, seal_older, sha256
from kiyas.runfolder.manifests import CHECKPOINTS, LARGE, READS, REMADE, digest_of, forget_accepted, outputs, refuse
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.peft import header
from kiyas.runfolder.record import (
    FORMAT,
    BaseModelFacts,
    Begun,
    FileFacts,
    JudgeFacts,
    Kind,
    Record,
    declared,
    new_id,
    paths_start,
    read_record,
    utc_now,
    write_record,
)
from kiyas.study.settings import HARMLESS, Study
from kiyas.types import KiyasError
from kiyas.work.engine import Engine
from kiyas.work.progress import bar
from kiyas.work.workers import HERE

# Which stage a change of a section of the study file, or of a setting in it, falsifies first. `None`: no stage.
FALSIFIES: dict[str, Stage | None] = {
    "name": None,
    "model_name_or_path": Stage.DATA,
    "model_revision": Stage.DATA,
    "arms": Stage.DATA,
    "arms.*.newest": Stage.ANALYSE,  # describes the data; does not change it
    "arms.*.expect": Stage.ANALYSE,
    "dataset": Stage.DATA,
    "seeds": Stage.TRAIN,
    "peft": Stage.TRAIN,
    "training": Stage.TRAIN,
    "training.max_length": Stage.DATA,
    "training.completion_only_loss": Stage.DATA,
    "benchmarks": Stage.DATA,
    "generation": Stage.GENERATE,
    "judge": Stage.JUDGE,
    "compare": Stage.ANALYSE,
    "report": Stage.REPORT,
    "store": None,
}

ANSWERING = (".json", ".jinja", ".txt", ".model", ".tiktoken")
"""Files of a model folder, beside its weights, that its answers depend on: configuration, tokenizer, chat template."""
QUANTIZED = ("bitsandbytes", "accelerate")
"""Packages that `training.load_in_4bit` needs."""


def pinned(study: Study, folder: RunDir) -> Study:
    """With the commits of its Hub repositories: those that the run folder was started with, else those of now."""
    return hub.pinned(study, read_record(folder).study if folder.is_begun else None)


def refuse_missing_packages(study: Study) -> None:
    """Raises KiyasError where a setting needs a package that is not installed: before anything is spent."""
    missing = [name for name in QUANTIZED if importlib.util.find_spec(name) is None]
    if study.training.load_in_4bit and missing:
        raise KiyasError(
            f"training.load_in_4bit needs {' and '.join(missing)}, not installed here", "pip install 'kiyas[quantized]'"
        )

    refuse_missing_trackers(study)


def refuse_missing_trackers(study: Study) -> None:
    """Raises KiyasError where `training.report_to` names what is not installed. An extra has its tracker's name."""
    missing = [str(each) for each in study.training.report_to if importlib.util.find_spec(each) is None]
    if missing:
        raise KiyasError(
            f"training.report_to needs {' and '.join(missing)}, not installed here",
            f"pip install 'kiyas[{','.join(missing)}]', or leave it out",
        )


def open_run(
    study: Study,
    folder: RunDir,
    file: Path | None,
    text: str,
    overrides: list[str],
    redo: Stage | None,
    engine: Engine = HERE,
) -> Tier:
    """Stamps a new run folder, or checks that an old one is of the same study. Returns the tier of isolation.

    `file` and `text`: the study file, where there is one, and what is in it.
    What `redo` will drop need not agree with the study.
    """
    if folder.is_begun:
        tier = _reopen(study, folder, redo)
        record = read_record(folder)
        if record.format == 1:
            _seal_older(folder)
        written = record.study_file_sha256
        lost = not folder.study_copy.is_file() or sha256(folder.study_copy) != written
        if lost and written == hashlib.sha256(text.encode()).hexdigest():
            atomic_text(folder.study_copy, text)
        return tier
    if any(folder.stage(stage).exists() for stage in Stage):
        raise KiyasError(f"{folder.root} is not empty, but is not a run folder", "give this study another `name`")
    # Before anything is spent: a machine that cannot isolate as asked is found out now.
    tier = choose(study.judge.isolation, study.judge.python)
    if text:
        atomic_text(folder.study_copy, text)
    record = Record(
        kind=Kind.RUN,
        name=study.name,
        format=FORMAT,
        run_id=new_id(),
        packages=_packages(study),
        git=git.revision(),
        study=study,
        study_file_sha256=sha256(folder.study_copy) if text else None,
        study_folder=str(paths_start(file)) if file is not None else None,
        declared_sha256=declared(study),
        base=_base(study),
        models=_models(study),
        judge=JudgeFacts(tier=tier, mode=study.judge.mode),
        device="gpu" if engine.gpus(study.training.device) else "cpu",
        overrides=tuple(overrides),
    )
    write_record(folder, record)
    return tier


def _reopen(study: Study, folder: RunDir, redo: Stage | None) -> Tier:
    """Checks that the run folder is of this study, and notes what may change."""
    record = read_record(folder)
    study = _reported_as_before(study, record)
    base = _base(study, record.base)
    if record.kind is not Kind.RUN or record.study is None or record.judge is None:
        raise KiyasError(f"{folder.root} holds an import, not a run", "give this study another `name`")
    judge = record.judge
    before, now = record.study.model_dump(mode="json"), study.model_dump(mode="json")
    there = [stage for stage in Stage if folder.stage(stage).exists()]
    _refuse_changed(folder.root, there, before, now, redo)
    same = record.base is not None and record.base.same_as(base)
    if not same and redo not in (Stage.DATA, Stage.TRAIN) and folder.stage(Stage.TRAIN).exists():
        raise KiyasError(
            f"{study.model_name_or_path} is not the model that {folder.root} was started with",
            f"restore it, or add --redo {Stage.TRAIN.value} to repeat everything except the data",
        )
    models = _models(study, record.models)
    other_models = _other(models, record.models)
    tier = _same_tier(study, folder, record, redo)
    if redo is not None:
        # What it will read is sound; and it is gone before the record says that it is of this study.
        read = [name for stage in redo.later for name in READS[stage]]
        refuse(folder, [name for name in read if Stage(name.partition("/")[0]) not in redo.later])
        folder.drop(redo)
        record = forget_accepted(folder, redo.later)
    if (before, judge.tier) != (now, tier) or not same or other_models:
        kept = record.declared_before and before["compare"] == now["compare"]
        stamp = declared(study) if kept else record.declared_sha256
        versions = {**record.packages, **_packages(study, record.packages)}
        update = {
            "study": study,
            "base": record.base if same else base,
            "models": models,
            "judge": judge.model_copy(update={"tier": tier}),
            "declared_sha256": stamp,
            "packages": versions,
        }
        changed = record.model_copy(update=update)
        write_record(folder, changed)
        note(folder, _notes_of_change(before, now))
    return tier


def _reported_as_before(study: Study, record: Record) -> Study:
    """Trackers and stores change nothing in a run: with others it is the same one, and its record stays as it is."""
    if record.study is None:
        return study
    training = study.training.model_copy(update={"report_to": record.study.training.report_to})
    return study.model_copy(update={"training": training, "store": record.study.store})


def refuse_another_study(
    study: Study, record: Record, where: Path, there: Collection[Stage], redo: Stage | None
) -> None:
    """Raises KiyasError where a copy of a run, which holds the stages `there`, is not of this study."""
    assert record.study is not None
    now = _reported_as_before(study, record).model_dump(mode="json")
    _refuse_changed(where, there, record.study.model_dump(mode="json"), now, redo)


def _seal_older(folder: RunDir) -> None:
    """0.1.0 left files that grow without seals."""
    states = (folder.stage(stage).glob("state/*.jsonl") for stage in (Stage.TRAIN, Stage.GENERATE))
    for path in (*chain(*states), folder.judgments, folder.redecoded_judgments):
        if (
            path.is_file()
            and not seal_of(path).exists()
            and folder.manifest(Stage(path.relative_to(folder.root).parts[0])) is None
        ):
            seal_older(path)


def _same_tier(study: Study, folder: RunDir, record: Record, redo: Stage | None) -> Tier:
    """The tier of isolation that the run was started with: it is decided once, and again only to judge everything anew.

    Raises SandboxError where it does not hold on this machine and there are programs to judge.
    """
    assert record.judge is not None and record.study is not None
    anew = redo is not None and Stage.JUDGE in redo.later
    if anew or (study.judge.isolation != record.study.judge.isolation and not folder.stage(Stage.JUDGE).exists()):
        return choose(study.judge.isolation, study.judge.python)
    tier = record.judge.tier
    if folder.manifest(Stage.JUDGE) is None and not (found := probe_tier(tier, study.judge.python)).holds:
        raise SandboxError(
            f"{folder.root} was started in {tier} isolation, which does not hold on this machine: {found.reason}",
            "go on where it holds; or judge all of its programs in another one: --redo judge, and judge.isolation",
        )
    return tier


def isolated(study: Study, tier: Tier) -> Study:
    """The study with the tier that was decided on: no stage chooses again."""
    return study.model_copy(update={"judge": study.judge.model_copy(update={"isolation": Isolation(tier)})})


def note_other_versions(study: Study, folder: RunDir) -> None:
    """Notes where the data, training or answers go on with other versions than those that the run was started with."""
    record = read_record(folder)
    left = [stage for stage in (Stage.DATA, Stage.TRAIN, Stage.GENERATE) if folder.manifest(stage) is None]
    now, then = {"kiyas": VERSION, **_packages(study)}, {"kiyas": record.kiyas_version, **record.packages}
    other = [f"{name} {now[name]} instead of {then[name]}" for name in now if name in then and now[name] != then[name]]
    if left and other:
        note(folder, [f"from the stage {left[0]} on the run used {', '.join(other)}"])


def _packages(study: Study, known: Collection[str] = ()) -> dict[str, str]:
    """Versions of the packages that the numbers depend on, without those that are known."""
    names = ["torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "altair"]
    names += QUANTIZED if study.training.load_in_4bit else ()
    return {name: importlib.metadata.version(name) for name in names if name not in known}


def changes(before: Any, now: Any, at: str = "") -> list[str]:
    """Dotted keys in which two resolved studies differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [found for key in keys for found in changes(before.get(key), now.get(key), f"{at}.{key}" if at else key)]
    return [] if before == now else [at]


def _falsified(key: str) -> Stage | None:
    """The first stage that a change of this setting falsifies: by the longest entry that it begins with."""
    parts = key.split(".")
    if parts[0] == "arms":
        parts[1] = "*"
    known = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next(FALSIFIES[name] for name in known if name in FALSIFIES)


def _refuse_changed(
    where: Path, there: Collection[Stage], before: dict[str, Any], now: dict[str, Any], dropped: Stage | None
) -> None:
    changed = [key for key in changes(before, now) if key not in HARMLESS]
    stages = [(_falsified(key), key) for key in changed]
    for stage in Stage:
        guilty = [key for first, key in stages if first is stage]
        if not guilty or stage in (Stage.ANALYSE, Stage.REPORT):
            continue
        kept = [later for later in stage.later if dropped is None or later not in dropped.later]
        if any(later in there for later in kept):
            raise KiyasError(
                f"{where} was made with another study file; these keys changed: {', '.join(changed)}",
                f"give the study another `name`, or add --redo {stage.value} to do "
                f"{', '.join(later.value for later in stage.later)} again",
            )


def _notes_of_change(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    declared = [key for key in changes(before, now) if key.startswith("compare")]
    return [f"{key} was changed on {utc_now()}, after the run had started" for key in declared]


def model_files(study: Study) -> list[Path]:
    """The base's files of weights."""
    return weights_in(hub.base_folder(study))


def weights_in(root: Path) -> list[Path]:
    """A model folder's files of weights."""
    found = (sorted(filter(Path.is_file, root.glob(pattern))) for pattern in ("*.safetensors", "*.bin"))
    return next(filter(None, found), [])


def parameters(study: Study) -> int | None:
    """Weights of the base; None where its files do not say."""
    found = shapes(study)
    return None if found is None else sum(map(math.prod, found))


def same_base(record: Record, study: Study, root: Path) -> Path:
    """The base's folder. Raises KiyasError where it is not what the run in `root` was made with."""
    base, known = hub.base_folder(study), record.base
    if not (base / "config.json").is_file():
        raise KiyasError(
            f"the base of {root} is not here: no model in {base}", "copy the model there, or mount its disk"
        )
    if known is not None and not known.same_as(model_facts(base, study.model_name_or_path, known)):
        raise KiyasError(
            f"{study.model_name_or_path} is not the model that {root} was made with",
            "restore that model: on another base the adapters would give other answers",
        )
    return base


def shapes(study: Study) -> list[tuple[int, ...]] | None:
    """Of the base's tensors."""
    return shapes_in(hub.base_folder(study))


def shapes_in(root: Path) -> list[tuple[int, ...]] | None:
    """Of a model folder's tensors, from the headers of its safetensors files; None without such files."""
    found = []
    for path in weights_in(root):
        if path.suffix != ".safetensors":
            return None
        found += [entry.shape for entry in header(path).values()]
    return found


def model_facts(root: Path, name: str, known: BaseModelFacts | None = None) -> BaseModelFacts:
    """Name and digests of a model folder. Weights whose size and time are known are not read again."""
    return BaseModelFacts(name_or_path=name, fingerprint=_fingerprint(root), files=_digests(root, known))


def _base(study: Study, known: BaseModelFacts | None = None) -> BaseModelFacts:
    facts = model_facts(hub.base_folder(study), study.model_name_or_path, known)
    return facts.model_copy(update={"parameters": parameters(study)})


def _other(models: Mapping[str, BaseModelFacts], known: Mapping[str, BaseModelFacts]) -> bool:
    return models.keys() != known.keys() or any(not models[name].same_as(known[name]) for name in models)


def _models(study: Study, known: Mapping[str, BaseModelFacts] = MappingProxyType({})) -> dict[str, BaseModelFacts]:
    """Of the arms that are whole models."""
    return {
        name: model_facts(Path(arm.model), arm.model, known.get(name))
        for name, arm in study.arms.items()
        if arm.model is not None
    }


def _digests(root: Path, known: BaseModelFacts | None) -> dict[str, FileFacts]:
    before = known.files if known is not None and known.files is not None else {}
    found = {}
    weights = weights_in(root)
    small = [path for path in root.rglob("*") if path.suffix in ANSWERING and path.is_file()]
    with bar("digest", len(weights), "files of weights") if _large(weights) else nullcontext() as progress:
        for path in [*small, *weights]:
            name, now = path.relative_to(root).as_posix(), path.stat()
            kept = before.get(name)
            same = kept is not None and (kept.bytes, kept.mtime_ns) == (now.st_size, now.st_mtime_ns)
            if kept is not None and same and now.st_size >= LARGE:
                found[name] = kept
            else:
                found[name] = FileFacts(bytes=now.st_size, mtime_ns=now.st_mtime_ns, sha256=sha256(path))
            if progress is not None and path in weights:
                progress.update()
    return dict(sorted(found.items()))


def _large(paths: list[Path]) -> bool:
    return sum(path.stat().st_size for path in paths) > 4 * LARGE


def _fingerprint(root: Path) -> str:
    """What 0.1.0 knew of a model folder: sizes, and the ends of every file."""
    found = []
    for path in [root / "config.json", root / "tokenizer.json", *weights_in(root)]:
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(1 << 16)
                file.seek(max(0, path.stat().st_size - (1 << 16)))
                found.append([path.name, path.stat().st_size, start.hex(), file.read().hex()])
    return digest(found)


def inputs(stage: Stage, folder: RunDir, study: Study | None, language: str) -> dict[str, str]:
    """Digests of the files that a stage reads; a finished stage with other digests is stale. No study: an import."""
    files: dict[Stage, list[Path]] = {
        Stage.DATA: _sources(study),
        Stage.TRAIN: [*(folder.arm_data(arm) for arm in (study.trained if study else ())), *_given_checkpoints(study)],
        Stage.GENERATE: [folder.problems],
        Stage.JUDGE: [folder.problems, folder.completions, folder.redecoded],
        Stage.ANALYSE: [
            folder.problems,
            folder.contamination,
            folder.data_facts,
            folder.train_log,
            folder.completions,
            folder.judgments,
            folder.redecoded,
            folder.redecoded_judgments,
            folder.resolved,
        ],
        Stage.REPORT: [folder.findings],
    }
    found = {
        str(path.relative_to(folder.root)) if path.is_relative_to(folder.root) else str(path): digest_of(folder, path)
        for path in files[stage]
        if path.exists()
    }
    if stage is Stage.GENERATE:
        found |= _of_training(folder) | _of_models(folder)
    # Findings of an older version are made anew, not misread; a report in another language is another one.
    settings = {Stage.ANALYSE: {"format": str(FINDINGS_FORMAT)}, Stage.REPORT: {"language": language}}
    return {**found, **settings.get(stage, {})}


def _of_training(folder: RunDir) -> dict[str, str]:
    """What answers: the checkpoints. 0.1.0 did not note them."""
    made = outputs(folder, Stage.TRAIN)
    if made is None:
        path = folder.manifest_path(Stage.TRAIN)
        return {str(path.relative_to(folder.root)): sha256(path)} if path.exists() else {}
    of_file = {name: facts["sha256"] for name, facts in made.items() if name.startswith(CHECKPOINTS)}
    return {CHECKPOINTS: digest(of_file)}


def _of_models(folder: RunDir) -> dict[str, str]:
    record = read_record(folder)
    given = {name: arm.model for name, arm in record.arms.items() if arm.model is not None}
    return {
        path: digest(record.models[name].digests) if name in record.models else _fingerprint(Path(path))
        for name, path in given.items()
    }


def _sources(study: Study | None) -> list[Path]:
    """Files outside the run folder that hold rows and problems."""
    if study is None:
        return []
    names = [arm.dataset_name for arm in study.arms.values() if arm.dataset_name]
    names += [benchmark.dataset for benchmark in study.benchmarks.named.values()]
    return [path for path in map(Path, names) if path.is_file()]


def _given_checkpoints(study: Study | None) -> list[Path]:
    if study is None:
        return []
    roots = [Path(arm.checkpoints) for arm in study.arms.values() if arm.checkpoints is not None]
    inside = (folder for root in roots for folder in adapters.folders(root))
    return sorted(path for folder in inside for path in folder.glob("adapter_*") if path.is_file())


def note(folder: RunDir, notes: list[str]) -> None:
    """Puts what was unusual into the run folder, for the report; each line once."""
    record = read_record(folder)
    write_record(folder, record.model_copy(update={"notes": tuple(dict.fromkeys([*record.notes, *notes]))}))


def begin(stage: Stage, folder: RunDir, inputs: dict[str, str]) -> None:
    """Notes what a stage reads when it begins. Raises KiyasError where it goes on with something else."""
    record = read_record(folder)
    if stage is Stage.DATA or stage in REMADE:
        return  # whole or not at all
    if record.begun is not None and record.begun.stage == stage and folder.stage(stage).exists():
        if changed := stale(record.begun.inputs, inputs):
            refuse_stale(stage, folder, changed)
        return
    write_record(folder, record.model_copy(update={"begun": Begun(stage=stage.value, inputs=inputs)}))


def refuse_other_models(study: Study, folder: RunDir, stage: Stage) -> None:
    """Raises KiyasError where a model is not what it was when the run began, and the stage has just used it."""
    if stage not in (Stage.TRAIN, Stage.GENERATE):
        return
    record = read_record(folder)
    same = record.base is not None and record.base.same_as(_base(study, record.base))
    if not same or _other(_models(study, record.models), record.models):
        raise KiyasError(
            f"a model of {folder.root} changed while the stage {stage.value!r} used it",
            f"restore it, and add --redo {stage.value}",
        )


def stale(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What a stage used and is another one now."""
    return sorted(name for name in {**now, **then} if now.get(name) != then.get(name))


def refuse_stale(stage: Stage, folder: RunDir, changed: list[str]) -> None:
    """Costly work is not silently discarded when its inputs change."""
    if stage not in REMADE:
        raise KiyasError(
            f"{folder.root}: {', '.join(changed)} changed after the stage {stage.value!r} had used it",
            f"restore it, or add --redo {stage.value} to do {', '.join(stage.later)} again",
        )
