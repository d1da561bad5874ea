"""Where everything of one run lies: paths, manifests, one process at a time.

A stage is finished when its `manifest.json` exists; it is written last and atomically. See docs/formats.md.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from kiyas.runfolder.files import disk_errors, how_to_mend, read_sealed, refuse_not_a_file
from kiyas.runfolder.litter import remove, sweep
from kiyas.types import KiyasError

MANIFEST = "manifest.json"
AUTHORS = re.compile(r"report(\.[\w-]+)?\.md")
"""What report.md, report.tr.md and their backups begin with: files that an author writes into, too."""


class Stage(StrEnum):
    """The stages in the order in which they run."""

    DATA = "data"
    TRAIN = "train"
    GENERATE = "generate"
    JUDGE = "judge"
    ANALYSE = "analyse"
    REPORT = "report"

    @property
    def later(self) -> list[Stage]:
        """This stage and all that follow from it."""
        stages = list(Stage)
        return stages[stages.index(self) :]


@dataclass(frozen=True)
class RunDir:
    """Where everything of one run lies. Creating the object touches nothing on disk."""

    root: Path

    def __fspath__(self) -> str:
        return str(self.root)

    def __str__(self) -> str:
        return str(self.root)

    def stage(self, stage: Stage) -> Path:
        return self.root / stage.value

    @property
    def study_copy(self) -> Path:
        return self.root / "study.yaml"

    @property
    def resolved(self) -> Path:
        return self.root / "resolved.json"

    def arm_data(self, arm: str) -> Path:
        return self.root / "data" / f"{arm}.jsonl"

    @property
    def problems(self) -> Path:
        return self.root / "data" / "problems.jsonl"

    @property
    def contamination(self) -> Path:
        return self.root / "data" / "contamination.json"

    @property
    def data_facts(self) -> Path:
        return self.root / "data" / "facts.json"

    @property
    def train_log(self) -> Path:
        return self.root / "train" / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.root / "train" / "checkpoints"

    @property
    def train_state(self) -> Path:
        return self.root / "train" / "state"

    @property
    def completions(self) -> Path:
        return self.root / "generate" / "completions.jsonl"

    @property
    def redecoded(self) -> Path:
        return self.root / "generate" / "redecoded.jsonl"

    @property
    def judgments(self) -> Path:
        return self.root / "judge" / "judgments.jsonl"

    @property
    def redecoded_judgments(self) -> Path:
        return self.root / "judge" / "redecoded.jsonl"

    @property
    def differences(self) -> Path:
        return self.root / "judge" / "differences.csv"

    @property
    def findings(self) -> Path:
        return self.root / "analyse" / "findings.json"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def is_begun(self) -> bool:
        """Is it a run folder, if only one that lost its record?"""
        return self.resolved.exists() or any(self.manifest_path(stage).exists() for stage in Stage)

    def manifest_path(self, stage: Stage) -> Path:
        return self.stage(stage) / MANIFEST

    def manifest(self, stage: Stage) -> dict[str, Any] | None:
        """The stage's manifest, or None while the stage is not finished."""
        path = self.manifest_path(stage)
        if not path.exists():
            return None
        return self.checked(stage, read_sealed(path))

    def checked(self, stage: Stage, value: Any) -> dict[str, Any]:
        """What a manifest holds. Raises KiyasError where it is none."""
        path = self.manifest_path(stage)
        kinds: dict[str, Any] = {"inputs": dict, "counts": dict, "seconds": (int, float)}
        if not isinstance(value, dict) or any(not isinstance(value.get(key), kind) for key, kind in kinds.items()):
            raise KiyasError(f"{path} is not the manifest of a stage", how_to_mend(path))
        return value

    def counts(self, stage: Stage) -> dict[str, Any]:
        """What the stage counted; nothing while it is not finished."""
        manifest = self.manifest(stage)
        return dict(manifest["counts"]) if manifest else {}

    @property
    def arm_counts(self) -> dict[str, dict[str, Any]]:
        """What the data stage counted of each arm; nothing where there was no such stage."""
        return dict(self.counts(Stage.DATA).get("arms", {}))

    def drop(self, stage: Stage) -> None:
        """Removes what this stage and all later ones made; report.md stays, since its author's text is not ours."""
        for each in stage.later:
            # The manifest goes first: a half-removed stage must not look finished.
            remove(self.manifest_path(each))
            found = list(self.report.iterdir()) if each is Stage.REPORT and self.report.is_dir() else []
            if any(AUTHORS.match(path.name) for path in found):
                for path in found:
                    if not AUTHORS.match(path.name):
                        remove(path)
            else:
                remove(self.stage(each))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run folder for this process. A second process is refused with KiyasError.

        The kernel drops the lock with the process, so that a kill leaves nothing to clean up.
        """
        import fcntl

        with disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            refuse_not_a_file(self.root / ".lock")
            # A link there would have us write into the file that it leads to; a pipe would have us wait.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
            file = os.fdopen(os.open(self.root / ".lock", flags, 0o666), "r+")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise KiyasError(
                        f"{self.root}: this file system cannot lock files ({error.strerror}), so two runs could not be "
                        "kept apart",
                        "put the runs on another file system (--runs FOLDER)",
                    ) from error
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise KiyasError(
                    f"another process (pid {owner}) is working on {self.root}",
                    "wait for it, or give this study another `name`",
                ) from None
            with disk_errors(self.root):
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
                sweep(self.root)
            yield
