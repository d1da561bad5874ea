"""What `kiyas import --rejudge` has judged so far, kept in the run folder to be until the import is written.

A verdict is found again by its content: the problem, the program, the settings and the versions that it was judged
with. So nothing is judged twice after Ctrl-C or a kill, and nothing that has changed since is taken over.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from kiyas.interop.files import Row
from kiyas.judge import Finding, Problem
from kiyas.judge.tiers import choose
from kiyas.judge.version import VERSION
from kiyas.runfolder.files import JsonlWriter, digest, is_confirmed, read_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Judge

FOLDER = ".rejudged"


class Kept:
    """Verdicts and the proof of the problems, by content. It is read at once, and added to inside `with`, which needs
    the run folder's lock."""

    def __init__(self, folder: RunDir, settings: Judge) -> None:
        self._path = folder.root / FOLDER / "verdicts.jsonl"
        how = settings.model_dump(mode="json", exclude={"workers", "isolation"})
        tier = choose(settings.isolation, settings.python)
        self._how = [how, tier.value, VERSION, platform.python_version(), platform.platform()]
        self._problems: dict[str, str] = {}
        self._rows = self._read()

    def _read(self) -> dict[str, Any]:
        rows = read_jsonl(self._path) if self._path.exists() and is_confirmed(self._path) else []
        return {row["key"]: row["value"] for row in rows if row.keys() == {"key", "value"}}

    def verdict(self, problem: Problem, program: str) -> Row | None:
        """The verdict's own keys."""
        found: Row | None = self._rows.get(self._key(problem, program))
        return dict(found) if found is not None else None

    def add(self, problem: Problem, program: str, verdict: Row) -> None:
        self._put(self._key(problem, program), verdict)

    def proof(self, problems: Iterable[Problem]) -> list[Finding] | None:
        """What was found wrong with these problems; None where they are not proven yet."""
        found = self._rows.get(self._key_of_proof(problems))
        return None if found is None else [Finding(**each) for each in found]

    def add_proof(self, problems: Iterable[Problem], findings: Iterable[Finding]) -> None:
        self._put(self._key_of_proof(problems), [asdict(each) for each in findings])

    def _put(self, key: str, value: Any) -> None:
        if key not in self._rows:
            self._rows[key] = value
            self._writer.write({"key": key, "value": value})

    def _digest(self, problem: Problem) -> str:
        if problem.id not in self._problems:
            self._problems[problem.id] = digest(problem.to_row())
        return self._problems[problem.id]

    def _key(self, problem: Problem, program: str) -> str:
        return digest([self._digest(problem), program.encode("utf-8", "surrogatepass").hex(), self._how])

    def _key_of_proof(self, problems: Iterable[Problem]) -> str:
        return digest([sorted(map(self._digest, problems)), self._how])

    def __enter__(self) -> Kept:
        self._writer = JsonlWriter(self._path)  # which cuts off what was changed
        self._rows = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


def forget(folder: RunDir) -> None:
    """Removes what was kept: the import is written."""
    shutil.rmtree(folder.root / FOLDER, ignore_errors=True)
