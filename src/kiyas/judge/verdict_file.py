"""The verdicts of `kiyas judge` on disk and on the screen: what is written, resumed and summed up."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from .once import Once, short_digest
from .proof import Finding
from .pulse import JudgingPace, Pace, clock, left, on_screen, under_way
from .terminal import many, moves, one_line, raw
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


def line_of(program: Program, verdict: dict[str, Any], key: bytes | None = None) -> bytes:
    """The program's own keys, then the verdict's, as a line of JSON.

    With `key`, of all that the verdict depends on, also `judged`, which is this key, and `sealed`, a digest of the line
    before it: a row that was changed since is not taken for a verdict of ours.
    """
    row = {key: value for key, value in program.row.items() if key not in (*Verdict.KEYS, *SEAL)} | verdict
    if program.extraction is not None:
        row["extraction"] = {"method": program.extraction.method, "reason": program.extraction.reason}
        row["program"] = program.source
    if key is None:
        return (json.dumps(row) + "\n").encode()
    body = json.dumps({**row, "judged": key.hex()}).encode()
    return body[:-1] + SEALED % short_digest(body).hex().encode()


SEAL = ("judged", "sealed")
SEALED = b', "sealed": "%s"}\n'
LENGTH_OF_SEAL = len(SEALED % bytes(32))


def is_sealed(line: bytes) -> bool:
    """Whether the line is one of `line_of`, with every byte of it."""
    body = line[:-LENGTH_OF_SEAL] + b"}"
    return line[-LENGTH_OF_SEAL:] == SEALED % short_digest(body).hex().encode()


def write(out: IO[bytes], line: bytes) -> None:
    """Raises OutputError or ReaderGoneError."""
    try:
        while line := line[out.write(line) :]:
            pass
        out.flush()
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from None


# -- the file of --out ------------------------------------------------------------------------------------------------


class VerdictFile:
    """The verdicts of `--out`, its settings beside it. Use as a context: one process at a time has it.

    What is in it is known by content: the verdict of a program is looked up by all that it depends on (`Once.key`),
    wherever in the file its row is. Raises InputError for what is damaged, was changed or was made with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any], inputs: list[Path], once: Once) -> None:
        self.path = path.resolve()
        self.settings_file = Path(f"{path}.meta.json")
        self._settings, self._once = settings, once
        self._stack = contextlib.ExitStack()
        self.findings: list[Finding] | None = None
        """what was found wrong with the same problems before; None: they are not yet proven"""
        self.rows: list[bytes] = []
        """a digest of each row, in the file's order"""
        self.keys: list[bytes] = []
        """of each row: what its verdict depends on"""
        if any(_same(self.path, each) for each in inputs):
            raise InputError(str(path), 0, "is one of the inputs", "name another --out")

    def __enter__(self) -> VerdictFile:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self.path.is_file():
                raise InputError(str(self.path), 0, "is not a file", "name a file as --out")
            self._is_new = not self.path.exists()
            self._stack.enter_context(locked(self.path))
            if self.path.stat().st_size:
                self._read_settings()
                self._read_rows()
        except BaseException as error:
            self._stack.close()
            if isinstance(error, OSError):
                raise self._cannot(error) from None
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
            if self._is_new and not self.path.stat().st_size:  # nothing came of it
                self.path.unlink()
        self._stack.close()

    def _cannot(self, error: OSError) -> InputError:
        reason = f"cannot be written or resumed: {error.strerror or error}"
        return InputError(str(self.path), 0, reason, "name another --out")

    def _read_settings(self) -> None:
        if not self.settings_file.is_file():
            reason = f"exists, but no file {self.settings_file.name}"
            raise InputError(str(self.path), 0, reason, f"restore {self.settings_file.name}, or name another --out")
        try:
            before = json.loads(self.settings_file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise InputError(str(self.settings_file), 0, f"is damaged: {error!s:.200}", MEND) from None
        if not isinstance(before, dict):
            raise InputError(str(self.settings_file), 0, "is not a JSON object", MEND)
        if before.pop("sealed", None) != _seal(before):
            reason = "is damaged, was changed, or is of an older version of Kıyas"
            raise InputError(str(self.settings_file), 0, reason, MEND)
        now = json.loads(json.dumps(self._settings))
        if differing := sorted(key for key in now if before.get(key) != now[key]):
            which = ", ".join(f"{key} ({before.get(key)} then, {now[key]} now)" for key in differing)
            raise InputError(str(self.path), 0, f"was made with other settings: {which}", "name another --out")
        try:
            if before["proven"] == self._once.problems.hex():
                self.findings = [Finding(**each) for each in before[FINDINGS]]
        except (KeyError, TypeError):
            raise InputError(str(self.settings_file), 0, "is not one of ours", MEND) from None

    def _read_rows(self) -> None:
        """Only the last row may be torn: it is cut off."""
        good = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                if not is_sealed(line):
                    reason = "this row is damaged, or was changed after it was written"
                    hint = "restore it, or remove the line: its program is judged again"
                    raise InputError(str(self.path), number, reason, hint)
                good += len(line)
                row = json.loads(line)
                if not self._is_verdict(row):
                    raise InputError(str(self.path), number, "this row is not one of ours", "remove the line")
                self.rows.append(short_digest(line))
                self.keys.append(key := bytes.fromhex(row["judged"]))
                if row["verdict"] and not _may_pass(row):
                    self._once.remember(key, {name: row[name] for name in Verdict.KEYS if name in row})
        os.truncate(self.path, good)

    def _is_verdict(self, row: dict[str, Any]) -> bool:
        """Whether it has what is read of it: who knows how can seal anything."""
        try:
            bytes.fromhex(row["judged"])
            if row["verdict"] is None:
                return True
            verdicts = [row["verdict"], *([row["verdict_livecodebench"]] if self._settings["mode"] == "both" else ())]
            texts = [row["detail"], *row["flags"]]
            return all(map(Outcome, verdicts)) and all(isinstance(text, str) for text in texts)
        except (KeyError, TypeError, ValueError):
            return False

    def remember(self, findings: list[Finding], inputs: dict[str, Any]) -> None:
        """Writes the settings, what was found wrong with the problems, and for people the digests of the inputs."""
        meta = {**self._settings, **inputs, "proven": self._once.problems.hex()}
        meta[FINDINGS] = [asdict(finding) for finding in findings]
        text = json.dumps({**meta, "sealed": _seal(meta)}, indent=1) + "\n"
        try:
            replace(self.settings_file, [text.encode()])
        except OSError as error:
            raise self._cannot(error) from None

    def append(self) -> IO[bytes]:
        """To be written to by `write`."""
        return self._stack.enter_context(self.path.open("ab", buffering=0))

    def drop(self, wanted: set[bytes]) -> int:
        """Moves rows of programs that nobody asks for any more into FILE.removed.jsonl; how many."""
        if not (gone := sum(key not in wanted for key in self.keys)):
            return 0
        try:
            with self.path.open("rb") as file, open(self.removed, "ab", opener=_no_other) as removed:
                removed.writelines(line for line, key in zip(file, self.keys, strict=True) if key not in wanted)
                removed.flush()
                os.fsync(removed.fileno())
            with self.path.open("rb") as file:
                kept = (line for line, key in zip(file, self.keys, strict=True) if key in wanted)
                replace(self.path, kept, self._stack)
        except OSError as error:
            raise self._cannot(error) from None
        return gone

    @property
    def removed(self) -> Path:
        return Path(f"{self.path}.removed.jsonl")

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """These rows in place of all others. Raises OutputError."""
        try:
            replace(self.path, lines, self._stack)
        except OSError as error:
            raise OutputError(error.strerror or str(error)) from None


MEND = "restore it, or name another --out"


def _seal(meta: dict[str, Any]) -> str:
    return short_digest(json.dumps(meta, sort_keys=True).encode()).hex()


def _no_other(path: str, flags: int) -> int:
    """Neither where a link leads, nor what waits for a reader."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _may_pass(row: dict[str, Any]) -> bool:
    """A failure of the sandbox: the program is judged again."""
    return row["verdict"] == Outcome.IE and CHECKER_FAILED not in row["flags"]


def _same(one: Path, other: Path) -> bool:
    return one == other.resolve() or (one.exists() and other.exists() and one.samefile(other))


def replace(path: Path, lines: Iterable[bytes], held: contextlib.ExitStack | None = None) -> None:
    """The whole file, or what was there before. With `held` the new file is locked too, until that ends."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with contextlib.ExitStack() as stack:
            temporary.unlink(missing_ok=True)  # a killed one's, or something else that has this name
            file = stack.enter_context(temporary.open("xb"))
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
            if held is not None:
                with contextlib.suppress(OSError):  # where there are no locks, FILE.lock stays
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.replace(path)
            if held is not None:
                held.push(stack.pop_all())
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """The file, made if need be, for this process alone. Raises InputError where another one has it.

    Where the file system has no locks, a file FILE.lock is one; it names its process, so that a killed one's is known.
    """
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(str(path), 0, BUSY, "wait for it, or name another --out") from None
        except OSError:
            with _lock_file(path.with_name(path.name + ".lock"), path):
                yield
            return
        if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise InputError(str(path), 0, BUSY, "run the same command again")  # it has just been replaced
        yield


BUSY = "another process is writing to it"


@contextlib.contextmanager
def _lock_file(lock: Path, path: Path) -> Iterator[None]:
    for _ in range(2):
        try:
            with lock.open("x") as file:
                file.write(_process(os.getpid()))
            break
        except FileExistsError:
            with contextlib.suppress(OSError, ValueError, IndexError):
                owner = lock.read_text()
                if owner.strip() and owner != _process(int(owner.split()[0])):
                    lock.unlink()  # it was killed
    else:
        reason = f"{BUSY}, says {lock.name} (this file system has no locks)"
        raise InputError(str(path), 0, reason, f"wait for it; if none is, remove {lock.name}")
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _process(pid: int) -> str:
    """A process of this machine, not another one that has its number later."""
    try:
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        start = boot = "unknown"
    return f"{pid} {start} {boot}\n"


class Tally:
    """Counts verdicts, with a progress bar, and says at the end what they were."""

    def __init__(self, expected: Counter[str], there: int, both: bool) -> None:
        """`expected`: programs by problem; `there`: how many of them have their verdict already."""
        self.counts: Counter[Outcome] = Counter()
        self._both, self._differing = both, list[str]()
        self._refused = self._within = self.broken = 0
        self.failed: dict[str, str] = {}
        self._progress = Progress(expected.total() - there)
        self._pace = JudgingPace(expected)
        self._progress.left = self._pace.left_s

    def count(self, program: Program, row: dict[str, Any]) -> None:
        """`row`: the verdict's own keys."""
        self._pace.judged(program.problem_id, row.get("cpu_s") or 0.0)
        if row["verdict"] is None:
            self._refused += 1
            return
        verdict, detail, id = Outcome(row["verdict"]), row["detail"], program.problem_id
        self.counts[verdict] += 1
        if verdict is Outcome.IE:
            self.broken += not self.checker_failed(program, row)
        accepted = verdict is Outcome.AC
        self._within += accepted and any(flag.startswith(WITHIN) for flag in row["flags"])
        if self._both and accepted != ((other := row["verdict_livecodebench"]) == Outcome.AC):
            self._differing.append(f"{id}: {verdict} strict, {other} livecodebench; {detail}")
        self._progress.step(self.counts.total() + self._refused, f"{self.counts[Outcome.AC]} AC")

    def there(self, program: Program, row: dict[str, Any]) -> None:
        """It has its verdict already."""
        self._pace.known(program.problem_id)
        self.checker_failed(program, row)

    def hide(self) -> None:
        """Takes the progress bar off the line, for something else to be printed there."""
        self._progress.hide()

    def checker_failed(self, program: Program, row: dict[str, Any]) -> bool:
        """Whether that is why there is no verdict; said once for each problem."""
        if found := CHECKER_FAILED in row.get("flags", ()):
            self.failed.setdefault(program.problem_id, row["detail"])
        return found

    def say(self, reused: int) -> None:
        """The summary, on stderr. `reused`: verdicts that were those of the same program before."""
        self._progress.end()
        lines = [_summary(self.counts)]
        if reused:
            lines.append(f"{reused} of these verdicts are those of the same program for the same problem, run once")
        if self._refused:
            lines.append(f"{many(self._refused, 'program')} without a verdict: refused problems, for the reasons above")
        if self._both:
            lines.append(f"the modes differ on {len(self._differing)} of {self.counts.total()} programs")
            lines += [f"  {line}" for line in self._differing]
        if self._within:
            lines.append(f"{self._within} accepted programs would not be, were outputs compared exactly")
        for id, detail in self.failed.items():
            lines.append(f"IE: problem {id}: {detail}; mend its checker, or leave the problem out")
        if self.broken:
            lines.append(
                f"IE: {many(self.broken, 'failure')} of the sandbox, not of a program; "
                "with --out the same command judges these again"
            )
        print("\n".join(map(one_line, lines)), file=sys.stderr)


def _summary(counts: Counter[Outcome]) -> str:
    total = sum(counts.values())
    if not total:
        return "nothing left to judge"
    parts = ", ".join(f"{counts[kind]} {kind}" for kind in Outcome if counts[kind])
    return f"{many(total, 'program')}: {parts} ({100 * counts[Outcome.AC] / total:.1f} % accepted)"


class Progress:
    """A bar on a terminal that can show it; elsewhere a line every five seconds."""

    def __init__(self, total: int, what: str = "judged: ") -> None:
        self.total, self.what, self.done, self.note = total, what, 0, ""
        self.moves = moves(sys.stderr)
        self.pace = Pace()
        self.left: Callable[[], float | None] = self._left
        self._began = self._drawn = time.monotonic()
        self._hidden, self._drawing = False, threading.Lock()
        self._ends = contextlib.ExitStack()
        self._ends.enter_context(on_screen(self._draw) if self.moves else under_way(self.__str__))

    def _left(self) -> float | None:
        return self.pace.left_s(self.total - self.done)

    def __str__(self) -> str:
        parts = [f"{self.what}{self.done}/{self.total}", f"{clock(time.monotonic() - self._began)} elapsed"]
        return ", ".join([*parts, left(self.left()), *([self.note] if self.note else [])])

    def step(self, done: int, note: str = "") -> None:
        self.done, self.note, self._hidden = done, note, False
        self.pace.mark(done)
        if self.moves and time.monotonic() - self._drawn > 0.1:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        filled, said = 10 * self.done // max(1, self.total), str(self)
        width = shutil.get_terminal_size().columns - 1
        shown = f"[{'#' * filled}{'.' * (10 - filled)}] {said}"
        shown = shown if len(shown) <= width else said[:width]  # what takes two lines is not taken off again
        with self._drawing:
            if not self._hidden:
                print(f"\r\x1b[K{shown}", end="", file=raw(sys.stderr), flush=True)

    def hide(self) -> None:
        """Takes the bar off the line until the next step, for something else to be printed there."""
        with self._drawing:
            self._hidden = True
            if self.moves:
                print("\r\x1b[K", end="", file=raw(sys.stderr), flush=True)

    def end(self) -> None:
        self.hide()
        self._ends.close()
