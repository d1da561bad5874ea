"""The seam between the stages and who computes: this machine (workers.py) or a cluster (pipeline/cluster.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from kiyas.types import KiyasError
from kiyas.work.progress import Bar

T = TypeVar("T")
OnProgress = Callable[[int, str], None]
"""Called with (units done since the last call, a note)."""
InWords = Callable[[BaseException], KiyasError | None]
"""What an error of the device means to the user; None: it is our fault."""


@dataclass(frozen=True)
class Place:
    """Where a part is done."""

    root: str
    """the run folder, or what a part needs of it"""
    device: str
    sharing: int = 1
    """workers that share the device's memory"""
    models: tuple[tuple[str, str], ...] = ()
    """names of models, with the folders where they lie there; of others the folder follows from the name"""


@dataclass(frozen=True)
class Model:
    """A model on the machine of the run."""

    folder: Path
    files: Mapping[str, str]
    """digests of all that its answers depend on, by name"""


@dataclass(frozen=True)
class Job:
    """A part as an engine is given it: its function is called with (place, *arguments, report)."""

    number: int
    lane: int
    """which worker does it, where parts are shared out beforehand; counted round"""
    arguments: tuple[Any, ...]
    reads: tuple[str, ...] = ()
    """what it reads of the run folder, and does not change: patterns"""
    own: tuple[str, ...] = ()
    """what it goes on from, and writes: patterns"""


Each = Callable[[Callable[..., Iterator[Any]], Path, tuple[str, ...], tuple[Any, ...], Iterable[Any]], Iterator[Any]]


class Engine(Protocol):
    """Who computes for the stages."""

    def gpus(self, device: str) -> list[str]:
        """The GPUs that `training.device` means; none: processors compute."""

    def places(self, device: str, workers: int | None, model_bytes: int, units: int) -> list[str]:
        """The device of each worker that would share so many units."""

    def cut(self, places: int, workers: int | None, units: int, problems: int) -> tuple[int, int]:
        """Into how many groups of units and blocks of problems a stage's work is cut, if it has so many places."""

    def asked(self, function: Callable[..., T], device: str, *arguments: Any) -> list[T]:
        """What the function answers to (*arguments, device), for each of the devices that `training.device` means."""

    def run(
        self,
        function: Callable[..., None],
        folder: Path,
        jobs: Sequence[Job],
        places: Sequence[str],
        find_models: Callable[[], Mapping[str, Model]],
        bar: Bar,
        in_words: InWords,
    ) -> None:
        """Does all jobs. `find_models`: those that they load, by name. Raises the first failure, after all stopped."""

    def each(
        self,
        function: Callable[..., Iterator[Any]],
        folder: Path,
        reads: tuple[str, ...],
        arguments: tuple[Any, ...],
        items: Iterable[Any],
    ) -> Iterator[Any]:
        """What function(root, *arguments, cores, items) yields for each item, in any order; no cores: as many as it
        likes."""

    def placed(self) -> list[dict[str, Any]]:
        """Where what was done since the last call was done, where that is not plain."""
