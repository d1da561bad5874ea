"""`kiyas judge`: verdicts as JSONL on stdout or in a file, progress on stderr."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from . import tiers
from .formats import FORMATS, read_problems
from .pool import judge
from .programs import fitted, problem_of, program_files, read_programs
from .types import InputError, Isolation, JudgeError, Limits, Mode, Outcome, Problem, SandboxError, Tier, Verdict
from .version import VERSION

DESCRIPTION = """\
Run programs on test cases and say what happened: AC, WA, TLE, MLE, RE, OLE, CE (IE: the sandbox failed).
Verdicts come as JSONL in input order; progress goes to stderr.

example:
  kiyas judge programs.jsonl --problems problems.jsonl --out verdicts.jsonl

  programs.jsonl:  {"problem_id": "double", "program": "print(int(input()) * 2)"}
  problems.jsonl:  {"id": "double", "tests": [{"input": "21\\n", "output": "42\\n"}]}

Exit code: 0 whatever the programs did, 1 for bad input, 2 when the sandbox failed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `kiyas judge`, also of `python -m kiyas.judge`."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "programs",
        nargs="+",
        metavar="PROGRAMS",
        help="files (.jsonl, .json, .gz), folders or quoted globs with programs or model answers",
    )
    parser.add_argument(
        "--problems", required=True, metavar="FILE", help="problems with their tests (.jsonl, .json, .gz)"
    )
    parser.add_argument(
        "--mode",
        choices=[mode.value for mode in Mode],
        default="strict",
        help="strict: a real script, a process per test (default); livecodebench: pass or fail as LiveCodeBench's own "
        "checker; both: strict, and the other verdict in a column of its own",
    )
    parser.add_argument("--workers", type=_positive_int, metavar="N", help="programs at once (default: CPU cores)")
    parser.add_argument(
        "--time-limit", type=positive, metavar="S", help="CPU seconds per test, over the problem's own (default 6)"
    )
    parser.add_argument(
        "--memory-limit",
        type=_positive_int,
        metavar="MB",
        help="memory per test, over the problem's own (default 1024)",
    )
    parser.add_argument(
        "--isolation",
        choices=[isolation.value for isolation in Isolation],
        default="strong",
        metavar="TIER",
        help="strong (default), standard or weak: refused if it does not hold here; best: the best that holds",
    )
    parser.add_argument("--out", metavar="FILE", help="append verdicts to this file; run again to resume")
    parser.add_argument(
        "--python", metavar="PATH", help="interpreter for the programs, with its packages (default: ours, with none)"
    )
    parser.add_argument("--stop-early", action="store_true", help="stop a program at its first failed test")
    parser.add_argument("--format", choices=list(FORMATS), help="format of the problems, where it is not recognised")


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


def run(args: argparse.Namespace) -> int:
    """Exit code: 0, 1 (bad input) or 2 (the sandbox failed)."""
    try:
        return _run(args)
    except SandboxError as error:
        print(f"kiyas judge: the sandbox failed: {error}", file=sys.stderr)
        return 2
    except JudgeError as error:
        print(f"kiyas judge: {error}", file=sys.stderr)
        return 1
    except _OutputError as error:
        hint = "; make room and run the same command again: it goes on from here" if args.out else ""
        print(f"kiyas judge: {args.out or 'standard output'}: cannot be written: {error}{hint}", file=sys.stderr)
        _close_stdout()
        return 2
    except BrokenPipeError:
        _close_stdout()  # the reader of our verdicts has seen enough
        return 0
    except KeyboardInterrupt:
        hint = "; the same command goes on from here" if args.out else ""
        print(f"\nkiyas judge: interrupted{hint}", file=sys.stderr)
        return 130


class _OutputError(Exception):
    """The verdicts cannot be written: no space, say."""


def _close_stdout() -> None:
    """Its buffer must not fail again at the interpreter's end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(args: argparse.Namespace) -> int:
    problems = {problem.id: problem for problem in read_problems(args.problems, args.format)}
    tier = tiers.choose(args.isolation, args.python)
    files = program_files(args.programs)
    expected, asked = _check_programs(files, problems)
    meta = _settings(args, files, tier)
    programs = (fitted(program, asked[program.problem_id]) for program in read_programs(files))
    # Refuses what cannot be judged before --out is touched; runs nothing yet.
    verdicts = judge(
        programs,
        asked,
        mode=args.mode,
        limits=Limits(args.time_limit, args.memory_limit),
        workers=args.workers,
        isolation=tier.value,
        python=args.python,
        stop_early=args.stop_early,
    )
    with contextlib.ExitStack() as stack:
        done = 0
        out: IO[bytes] = sys.stdout.buffer
        if args.out:
            path = Path(args.out)
            done = _resume(path, meta, [*files, Path(args.problems)])
            out = stack.enter_context(path.open("ab", buffering=0))
        if done:
            print(f"{args.out}: {done} of {expected} verdicts are there already", file=sys.stderr)
        for _ in range(done):
            next(programs, None)
        stack.callback(verdicts.close)  # type: ignore[attr-defined]
        counts = _write(verdicts, out, expected - done, args.mode == "both")
    print(f"isolation: {tier}", file=sys.stderr)
    return 2 if counts[Outcome.IE] else 0


def _check_programs(files: list[Path], problems: dict[str, Problem]) -> tuple[int, dict[str, Problem]]:
    """How many programs, and the problems that they answer. A mistake in the last line must not cost an hour."""
    count, asked = 0, {}
    for program in read_programs(files):
        count += 1
        asked[program.problem_id] = problem_of(program, problems)
    if not count:
        raise InputError(
            ", ".join(map(str, files)), 0, "no programs in it", "give a file with one program on each line"
        )
    return count, asked


def _settings(args: argparse.Namespace, files: list[Path], tier: Tier) -> dict[str, Any]:
    return {
        "mode": args.mode,
        "time_limit": args.time_limit,
        "memory_limit": args.memory_limit,
        "tier": tier.value,
        "python": args.python,
        "stop_early": args.stop_early,
        "problems": _digest(Path(args.problems)),
        "programs": [_digest(file) for file in files],
        "kiyas_version": VERSION,
        "python_version": platform.python_version(),
        "platform": platform.platform(),
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _resume(out: Path, meta: dict[str, Any], files: list[Path]) -> int:
    """How many verdicts the file holds already. Refuses one made with other settings; drops a torn last line."""
    if out.resolve() in {file.resolve() for file in files}:
        raise InputError(str(out), 0, "is one of the inputs", "name another --out")
    settings = Path(f"{out}.meta.json")
    rows = 0
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
            rows = _repair(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = settings.with_name(settings.name + ".tmp")
        temporary.write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
        temporary.replace(settings)
    except (OSError, ValueError) as error:
        raise InputError(str(out), 0, f"cannot be written or resumed: {error}", "name another --out") from None
    return rows


def _repair(out: Path) -> int:
    """Cuts the file off before the first torn row, or the first IE, and counts the rows before it."""
    good = rows = 0
    with out.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if not isinstance(row, dict) or row.get("verdict") == Outcome.IE:
                break
            good += len(line)
            rows += 1
    os.truncate(out, good)
    return rows


def _row(verdict: Verdict) -> dict[str, Any]:
    program = verdict.program
    row = {**program.row, **verdict.to_row()}
    if program.extraction is not None:
        row["extraction"] = {"method": program.extraction.method, "reason": program.extraction.reason}
        row["program"] = program.source
    return row


def _write(verdicts: Iterator[Verdict], out: IO[bytes], expected: int, both: bool) -> Counter[Outcome]:
    counts: Counter[Outcome] = Counter()
    differing: list[str] = []
    progress = _Progress(expected)
    for verdict in verdicts:
        try:
            row = (json.dumps(_row(verdict)) + "\n").encode()
            while row := row[out.write(row) :]:
                pass
            out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _OutputError(error.strerror or str(error)) from None
        counts[verdict.verdict] += 1
        if both and verdict.livecodebench is not None and verdict.accepted != (verdict.livecodebench is Outcome.AC):
            differing.append(
                f"{verdict.problem_id}: {verdict.verdict} strict, {verdict.livecodebench} livecodebench; "
                f"{verdict.detail}"
            )
        progress.step(counts)
    progress.end()
    print(_summary(counts), file=sys.stderr)
    if both:
        print(f"the modes differ on {len(differing)} of {sum(counts.values())} programs", file=sys.stderr)
        for line in differing:
            print(f"  {line}", file=sys.stderr)
    if counts[Outcome.IE]:
        print("IE: the sandbox failed, not the program; the same command judges again from there", file=sys.stderr)
    return counts


def _summary(counts: Counter[Outcome]) -> str:
    total = sum(counts.values())
    if not total:
        return "nothing left to judge"
    parts = ", ".join(f"{counts[kind]} {kind}" for kind in Outcome if counts[kind])
    return f"{total} programs: {parts} ({100 * counts[Outcome.AC] / total:.1f} % accepted)"


class _Progress:
    """A bar on a terminal; a plain line every ten seconds elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.start, self.last = total, time.monotonic(), 0.0
        self.terminal = sys.stderr.isatty()

    def step(self, counts: Counter[Outcome]) -> None:
        now, done = time.monotonic() - self.start, sum(counts.values())
        if now - self.last < (0.1 if self.terminal else 10.0):
            return
        self.last = now
        rate = done / now
        left = (self.total - done) / rate
        text = (
            f"{done}/{self.total}  {rate:.1f}/s  {int(left) // 60}:{int(left) % 60:02d} left  {counts[Outcome.AC]} AC"
        )
        if self.terminal:
            filled = 24 * done // max(1, self.total)
            print(f"\r\x1b[K[{'#' * filled}{'.' * (24 - filled)}] {text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.terminal and self.last:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
