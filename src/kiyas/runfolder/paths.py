"""Where everything of one run lies: paths, manifests, one process at a time.

A stage is finished when its `manifest.json` exists; it is written last and atomically. See docs/formats.md.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from kiyas.judge.version import VERSION
from kiyas.runfolder.files import disk_errors, read_json, refuse_not_a_file, write_json
from kiyas.runfolder.litter import sweep
from kiyas.types import KiyasError


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

    def manifest(self, stage: Stage) -> dict[str, Any] | None:
        """The stage's manifest, or None while the stage is not finished."""
        path = self.stage(stage) / "manifest.json"
        if not path.exists():
            return None
        value: dict[str, Any] = read_json(path)
        return value

    def counts(self, stage: Stage) -> dict[str, Any]:
        """What the stage counted; nothing while it is not finished."""
        manifest = self.manifest(stage)
        return dict(manifest["counts"]) if manifest else {}

    @property
    def arm_counts(self) -> dict[str, dict[str, Any]]:
        """What the data stage counted of each arm; nothing where there was no such stage."""
        return dict(self.counts(Stage.DATA).get("arms", {}))

    def finish(self, stage: Stage, inputs: dict[str, str], counts: dict[str, Any], seconds: float) -> None:
        """Declares a stage finished: writes its manifest, last."""
        write_json(
            self.stage(stage) / "manifest.json",
            {
                "stage": stage.value,
                "inputs": inputs,
                "counts": counts,
                "seconds": round(seconds, 2),
                "kiyas_version": VERSION,
            },
        )

    def drop(self, stage: Stage) -> None:
        """Removes what this stage and all later ones made; report.md stays, since its author's text is not ours."""
        for each in stage.later:
            # The manifest goes first: a half-removed stage must not look finished.
            (self.stage(each) / "manifest.json").unlink(missing_ok=True)
            if each is Stage.REPORT and any(self.report.glob("report.md*")):
                self._empty_report()
            else:
                shutil.rmtree(self.stage(each), ignore_errors=True)

    def _empty_report(self) -> None:
        for path in self.report.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith("report.md"):
                path.unlink()

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
            except OSError:
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
