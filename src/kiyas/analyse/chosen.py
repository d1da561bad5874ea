"""Which checkpoint of a finished run somebody means: the one that represents an arm, unless another one is named.

A run has a checkpoint of each seed. Where none is named it is the first of the study's seeds, whatever it scored: the
best of several seeds would look better than the arm is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from kiyas.analyse.contrasts import score
from kiyas.analyse.findings import Score
from kiyas.analyse.load import Loaded, load
from kiyas.analyse.selection import Selection, select
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Kind, Record, read_record
from kiyas.study.settings import Study
from kiyas.types import BASE, BASE_ARM, AdapterId, KiyasError, did_you_mean

NEEDED = (Stage.DATA, Stage.TRAIN, Stage.GENERATE, Stage.JUDGE)


@dataclass(frozen=True)
class Finished:
    """A run of this machine or a copy of it, with its study, that was trained and judged to the end."""

    folder: RunDir
    record: Record
    study: Study
    loaded: Loaded

    @classmethod
    def read(cls, folder: RunDir) -> Finished:
        """Raises KiyasError for an import, for a run that is not finished, and for a damaged one."""
        record = read_record(folder)
        if record.kind is Kind.IMPORT or record.study is None:
            raise KiyasError(
                f"{folder.root} is an import: it holds answers or verdicts, and no weights",
                "give the run that trained them; adapters that were trained elsewhere become an arm of a study file: "
                "{checkpoints: FOLDER}",
            )
        missing = next((stage for stage in NEEDED if folder.manifest(stage) is None), None)
        if missing is not None:
            raise KiyasError(
                f"{folder.root} is not finished: the stage {missing.value} is missing",
                f"kiyas run {folder.root} goes on with it",
            )
        return cls(folder, record, record.study, load(folder.root))

    @cached_property
    def selected(self) -> Selection:
        """By the rule of the study."""
        return select(self.loaded)

    @property
    def arms(self) -> list[str]:
        """Those that were judged, in the study's order."""
        return [arm for arm in self.selected.chosen if arm != BASE_ARM]

    def score(self, adapter: AdapterId) -> Score:
        """On the primary benchmark."""
        return score(self.loaded, adapter, self.selected.rates[adapter])

    def secondary(self, adapter: AdapterId) -> dict[str, Score]:
        """On the other benchmarks, by their labels."""
        others = self.loaded.secondary.items()
        return {label: score(other, adapter, other.rates(adapter)) for label, other in others}

    def seeds(self, arm: str) -> list[int]:
        """Those that were judged, in the study's order."""
        return [seed for seed in self.study.seed_list if seed in self.selected.chosen[arm]]

    def chosen(
        self, named: str, *, seed: int | None = None, variant: str | None = None, step: int | None = None
    ) -> AdapterId:
        """The checkpoint that `ARM` or `ARM@SEED` means.

        `variant`: at another point of the learning-rate grid than the chosen one. `step`: at another step than the
        study's rule chooses. Raises KiyasError for what the run does not have, with what it has.
        """
        arm, at, after = named.partition("@")
        if at:
            if not after.isdecimal():
                raise KiyasError(f"{named!r}: {after!r} is not a seed", f"write it as {arm or 'ARM'}@0")
            seed = int(after)
        if arm not in self.arms:
            if arm == BASE_ARM:
                raise KiyasError(
                    "base is the model before training: there is no adapter of it", f"arms: {_listed(self.arms)}"
                )
            raise KiyasError(
                f"{self.folder.root} has no arm {arm!r}{did_you_mean(arm, self.arms)}", f"arms: {_listed(self.arms)}"
            )
        of_seed = self.selected.chosen[arm]
        seed = self.seeds(arm)[0] if seed is None else seed
        if seed not in of_seed:
            raise KiyasError(f"{arm} has no seed {seed}", f"its seeds: {_listed(self.seeds(arm))}")
        found = of_seed[seed] if variant is None else self._at_rate(arm, variant, seed)
        return found if step is None else self._at_step(found, step)

    def _at_rate(self, arm: str, variant: str, seed: int) -> AdapterId:
        known = [each for of, each in self.selected.at_rate if of == arm]
        if variant not in known:
            names = _listed(each for each in known if each) if any(known) else "none: there was no grid"
            raise KiyasError(
                f"{arm} has no point {variant!r} of the learning-rate grid{did_you_mean(variant, known)}",
                f"its points: {names}",
            )
        return self.selected.at_rate[arm, variant][seed]

    def _at_step(self, chosen: AdapterId, step: int) -> AdapterId:
        judged = [each for each in self.loaded.answers if each.training == chosen.training]
        found = next((each for each in judged if each.step == step), None)
        if found is None:
            steps = _listed(sorted(each.step for each in judged))
            raise KiyasError(f"{chosen.arm}, seed {chosen.seed}, has no checkpoint at step {step}", f"steps: {steps}")
        return found

    def by_rule(self, adapter: AdapterId) -> bool:
        """Does it represent its training in the report?"""
        return adapter == BASE or adapter in self.selected.chosen[adapter.arm].values()


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))
