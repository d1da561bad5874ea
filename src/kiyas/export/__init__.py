"""One checkpoint of a finished run → a folder for others: an adapter or a merged model, with its model card.

Nothing in the run folder changes, and nothing is sent anywhere unless `push` names a repository.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kiyas.analyse import analyse
from kiyas.analyse.chosen import Finished
from kiyas.data.chat import Chat
from kiyas.export import card, hub
from kiyas.export.licence import UNKNOWN, licence_of
from kiyas.export.weights import Written, merged_format, write_adapter, write_merged
from kiyas.pipeline.identity import refuse_missing_packages, same_base
from kiyas.runfolder.files import disk_errors
from kiyas.runfolder.litter import remove
from kiyas.runfolder.manifests import CHECKPOINTS, refuse
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Dtype, Study
from kiyas.types import AdapterId, KiyasError
from kiyas.work.progress import tell


@dataclass(frozen=True)
class Wanted:
    """What is to be exported, as somebody asked for it."""

    arm: str
    """ARM or ARM@SEED"""
    variant: str | None = None
    step: int | None = None
    merged: bool = False
    dtype: Dtype = Dtype.AUTO
    """of merged weights"""
    licence: str | None = None
    out: Path | None = None
    push: str | None = None
    """a repository on the Hub"""
    private: bool = True


def export(folder: RunDir, wanted: Wanted) -> Path:
    """Writes the folder, and pushes it if `push` is given; returns it. Says on stderr what it does.

    Raises KiyasError, with what to do, before anything is written: for a run without such a checkpoint, a damaged
    file, a base that is another one now, a place that is taken.
    """
    if wanted.push is not None:
        hub.refuse_unready(wanted.push)
    run = Finished.read(folder)
    adapter = run.chosen(wanted.arm, variant=wanted.variant, step=wanted.step)
    _refuse_whole_model(run.study, adapter)
    refuse(folder, [f"{CHECKPOINTS}{adapter.folder}/"])
    place = wanted.out or Path("-".join(each for each in _words(run.study, adapter, wanted.merged) if each))
    _refuse_place(place, folder)
    refuse_missing_packages(run.study)
    base = same_base(run.record, run.study, folder.root)
    licence = licence_of(run.study, base, wanted.licence)
    _say_which(run, adapter)
    with _appearing(place) as temporary:
        written = _weights(temporary, run, base, adapter, wanted)
        has_template = bool(Chat.load(base).tokenizer.chat_template)
        findings = analyse(folder.root)
        subject = card.Subject(run, findings, adapter, written, wanted.merged, licence, has_template)
        remarks = card.write(temporary, subject)
    _say_what(place, written, wanted.merged, run.study.training.load_in_4bit)
    for line in remarks:
        tell(line)
    if licence.id == UNKNOWN:
        tell(f"licence: unknown ({licence.whence}); give one with --license ID")
    else:
        tell(f"licence: {licence.id}, {licence.whence}")
    if wanted.push is not None:
        tell(f"pushed: {hub.push(place, wanted.push, private=wanted.private)}")
    return place


def _words(study: Study, adapter: AdapterId, merged: bool) -> list[str]:
    """What the folder is called."""
    return [study.name, adapter.arm, adapter.variant, f"seed-{adapter.seed}", f"step-{adapter.step}", "merged" * merged]


def _refuse_whole_model(study: Study, adapter: AdapterId) -> None:
    model = study.arms[adapter.arm].model
    if model is not None:
        raise KiyasError(
            f"{adapter.arm} is a whole model, not an adapter: there is nothing to export or to merge",
            f"use it as it is: {model}",
        )


def _refuse_place(place: Path, folder: RunDir) -> None:
    """Raises KiyasError where the folder could not be made, or would hide something."""
    if place.resolve().is_relative_to(folder.root.resolve()):
        raise KiyasError(
            f"{place} is in the run folder, which an export must not change", "give another folder with --out"
        )
    with disk_errors(place):
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise KiyasError(f"{place} exists already, and is not a folder", "give another folder with --out")
        if place.is_dir() and any(place.iterdir()):
            raise KiyasError(
                f"{place} is not empty: nothing was written", "give another folder with --out, or remove this one"
            )


@contextmanager
def _appearing(place: Path) -> Iterator[Path]:
    """A folder to write into; what is in it appears in its place when the block ends, or not at all."""
    place = place.absolute()
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    with disk_errors(place):
        remove(temporary)
        temporary.mkdir(parents=True)
    try:
        yield temporary
        with disk_errors(place):
            if not place.is_dir():
                temporary.rename(place)
                return
            for path in sorted(temporary.iterdir()):  # it may be the folder that the command was given in
                path.rename(place / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _weights(folder: Path, run: Finished, base: Path, adapter: AdapterId, wanted: Wanted) -> Written:
    checkpoint, study = run.folder.checkpoints / adapter.folder, run.study
    if wanted.merged:
        return write_merged(folder, study, base, checkpoint, merged_format(wanted.dtype, run.record.dtype))
    own = study.peft_of(adapter.arm).lora_dropout if adapter.arm in study.trained else 0.0
    return write_adapter(folder, study, base, checkpoint, own)


def _say_which(run: Finished, adapter: AdapterId) -> None:
    seeds, rule = run.seeds(adapter.arm), run.study.compare.select.value
    others = f" of {', '.join(map(str, seeds))}" if len(seeds) > 1 else ""
    why = " (the first; not chosen by its score)" if len(seeds) > 1 and adapter.seed == seeds[0] else ""
    point = f"{adapter.variant}, " if adapter.variant else ""
    by_rule = f"{'' if run.by_rule(adapter) else 'not '}chosen by the study's rule: {rule}"
    tell(f"{adapter.arm}: seed {adapter.seed}{others}{why}, {point}step {adapter.step} ({by_rule})")


def _say_what(place: Path, written: Written, merged: bool, in_4bit: bool) -> None:
    kind = "a model that transformers loads" if merged else "an adapter that PEFT loads onto the base"
    tell(f"wrote {place}: {kind}, in {written.dtype}, and its model card")
    if written.difference is not None and math.isfinite(written.difference):
        tell(
            f"on a short text its logits differ from those of base and adapter by at most {written.difference:.2g} "
            f"(the largest logit is {written.largest:.3g})"
        )
    if in_4bit and merged:
        tell("the base answered in 4 bits: the merged weights are these 4-bit weights, dequantised")
    elif in_4bit:
        tell("the base answered in 4 bits (NF4): on the 16-bit base this adapter is a different model")
