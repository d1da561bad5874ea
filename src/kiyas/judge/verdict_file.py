"""The verdicts of `kiyas judge` on disk and on the screen: what is written, resumed and summed up."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from .once import Once
from .proof import Finding
from .types import InputError, Outcome, Program, Verdict
from .verdicts import CHECKER_FAILED, WITHIN

FINDINGS = "problems_found_wrong"
"""key of FILE.meta.json"""


class OutputError(Exception):
    """The verdicts cannot be written: no space, say."""


class ReaderGoneError(Exception):
    """Whoever reads our standard output has seen enough."""


def close_stdout() -> None:
    """Its buffer must not fail again at the interpreter's end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resume(
    out: Path, meta: dict[str, Any], files: list[Path], programs: Iterator[Program], once: Once
) -> tuple[int, list[Finding] | None]:
    """How many verdicts the file holds already, and what was found wrong with the problems (None: not yet proven).

    Refuses a file made with other settings; drops a torn last line. The programs that have a verdict are taken from
    `programs`, and `once` remembers them.
    """
    if out.resolve() in {file.resolve() for file in files}:
        raise InputError(str(out), 0, "is one of the inputs", "name another --out")
    settings = _settings_file(out)
    rows, findings = 0, None
    try:
        if out.exists() and out.stat().st_size:
            if not settings.exists():
                raise InputError(
                    str(out), 0, f"exists, but {settings.name} does not", "name another --out, or remove it"
                )
            before = json.loads(settings.read_text(encoding="utf-8"))
            if not isinstance(before, dict):
                raise InputError(str(settings), 0, "is not a JSON object", "name another --out")
            differing = sorted(key for key in meta if before.get(key) != meta[key])
            if differing:
                which = ", ".join(f"{key} ({before.get(key)} then, {meta[key]} now)" for key in differing)
                raise InputError(str(out), 0, f"was made with other settings: {which}", "name another --out")
            rows = _repair(out, programs, once)
            findings = [Finding(**each) for each in before.get(FINDINGS, [])]
        out.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(str(out), 0, f"cannot be written or resumed: {error}", "name another --out") from None
    return rows, findings


def _settings_file(out: Path) -> Path:
    return Path(f"{out}.meta.json")


def remember(out: Path, meta: dict[str, Any], findings: list[Finding]) -> None:
    """Writes the settings, and what was found wrong with the problems, beside the verdicts."""
    settings = _settings_file(out)
    temporary = settings.with_name(settings.name + ".tmp")
    found = {FINDINGS: [asdict(finding) for finding in findings]}
    try:
        temporary.write_text(json.dumps({**meta, **found}, indent=1) + "\n", encoding="utf-8")
        temporary.replace(settings)
    except OSError as error:
        raise InputError(str(out), 0, f"cannot be written or resumed: {error}", "name another --out") from None


def _repair(out: Path, programs: Iterator[Program], once: Once) -> int:
    """Cuts the file off before the first torn row, or the first IE that may pass, and counts the rows before it."""
    good = rows = 0
    with out.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if not isinstance(row, dict) or (
                row.get("verdict") == Outcome.IE and CHECKER_FAILED not in (row.get("flags") or [])
            ):
                break
            good += len(line)
            rows += 1
            if (program := next(programs, None)) is not None and once.is_new(program) and row.get("verdict"):
                once.remember(program, {key: row[key] for key in Verdict.KEYS if key in row})
    os.truncate(out, good)
    return rows


def write(out: IO[bytes], program: Program, verdict: dict[str, Any]) -> None:
    """The program's own keys, then the verdict's. Raises OutputError or ReaderGoneError."""
    row = {key: value for key, value in program.row.items() if key not in Verdict.KEYS} | verdict
    if program.extraction is not None:
        row["extraction"] = {"method": program.extraction.method, "reason": program.extraction.reason}
        row["program"] = program.source
    line = (json.dumps(row) + "\n").encode()
    try:
        while line := line[out.write(line) :]:
            pass
        out.flush()
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from None


class Tally:
    """Counts verdicts, with a progress bar, and says at the end what they were."""

    def __init__(self, expected: int, both: bool) -> None:
        self.counts: Counter[Outcome] = Counter()
        self._both, self._differing = both, list[str]()
        self._refused = self._within = 0
        self._failed: dict[str, str] = {}
        self._progress = Progress(expected)

    def count(self, program: Program, row: dict[str, Any]) -> None:
        """`row`: the verdict's own keys."""
        if row["verdict"] is None:
            self._refused += 1
            return
        verdict, detail, id = Outcome(row["verdict"]), row["detail"], program.problem_id
        self.counts[verdict] += 1
        if CHECKER_FAILED in row["flags"]:
            self._failed.setdefault(id, detail)
        accepted = verdict is Outcome.AC
        self._within += accepted and any(flag.startswith(WITHIN) for flag in row["flags"])
        if self._both and accepted != ((other := row["verdict_livecodebench"]) == Outcome.AC):
            self._differing.append(f"{id}: {verdict} strict, {other} livecodebench; {detail}")
        self._progress.step(self.counts.total() + self._refused, f"{self.counts[Outcome.AC]} AC")

    def say(self, reused: int) -> None:
        """The summary, on stderr. `reused`: verdicts that were those of the same program before."""
        self._progress.end()
        lines = [_summary(self.counts)]
        if reused:
            lines.append(f"{reused} of these verdicts are those of the same program for the same problem, run once")
        if self._refused:
            lines.append(f"{self._refused} programs have no verdict: their problems are refused, for the reasons above")
        if self._both:
            lines.append(f"the modes differ on {len(self._differing)} of {self.counts.total()} programs")
            lines += [f"  {line}" for line in self._differing]
        if self._within:
            lines.append(f"{self._within} accepted programs would not be, were outputs compared exactly")
        for id, detail in self._failed.items():
            lines.append(f"IE: problem {id}: {detail}; mend its checker, or leave the problem out")
        if self.counts[Outcome.IE] and not self._failed:
            lines.append("IE: the sandbox failed, not the program; the same command judges again from there")
        print("\n".join(lines), file=sys.stderr)


def _summary(counts: Counter[Outcome]) -> str:
    total = sum(counts.values())
    if not total:
        return "nothing left to judge"
    parts = ", ".join(f"{counts[kind]} {kind}" for kind in Outcome if counts[kind])
    return f"{total} programs: {parts} ({100 * counts[Outcome.AC] / total:.1f} % accepted)"


class Progress:
    """A bar on a terminal; a plain line every ten seconds elsewhere."""

    def __init__(self, total: int, what: str = "") -> None:
        self.total, self.what, self.start, self.last = total, what, time.monotonic(), 0.0
        self.terminal = sys.stderr.isatty()

    def step(self, done: int, note: str = "") -> None:
        now = time.monotonic() - self.start
        if now - self.last < (0.1 if self.terminal else 10.0):
            return
        self.last = now
        rate = done / now
        left = (self.total - done) / rate
        text = f"{self.what}{done}/{self.total}  {rate:.1f}/s  {int(left) // 60}:{int(left) % 60:02d} left  {note}"
        if self.terminal:
            filled = 24 * done // max(1, self.total)
            print(f"\r\x1b[K[{'#' * filled}{'.' * (24 - filled)}] {text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.terminal and self.last:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
