"""`kiyas judge`: verdicts as JSONL on stdout or in a file, progress on stderr."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
from collections.abc import Callable
from itertools import tee
from pathlib import Path
from typing import IO, Any

from . import tiers
from .formats import FORMATS, read_problems
from .once import Once
from .pool import judge
from .programs import for_problem, problem_of, program_files, read_programs
from .proof import in_words, prove, sound
from .sandbox import open_standard_streams
from .tolerances import with_statement
from .types import (
    AfterTimeout,
    ExtractionRule,
    InputError,
    Isolation,
    JudgeError,
    Limits,
    Mode,
    Outcome,
    Problem,
    SandboxError,
    Tier,
    ToleranceRule,
)
from .verdict_file import OutputError, Progress, ReaderGoneError, Tally, close_stdout, digest, remember, resume, write
from .version import VERSION

SHOWN = 5
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
    parser.add_argument(
        "--after-timeout",
        choices=[after.value for after in AfterTimeout],
        default="stop",
        help="after a program's first time-out: stop (its other tests count as not passed; default) or continue",
    )
    parser.add_argument(
        "--extraction",
        choices=[rule.value for rule in ExtractionRule],
        default="kiyas",
        help="how the program is found in an answer: kiyas (default): the last block that is a program; livecodebench: "
        "between the last two lines with three backticks",
    )
    parser.add_argument(
        "--tolerance",
        choices=[rule.value for rule in ToleranceRule],
        default="statement",
        help="statement (default): the error that a problem's statement allows; exact: only a problem's own tolerance",
    )
    parser.add_argument("--stop-early", action="store_true", help="stop a program at its first failed test")
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        metavar="NAME",
        help=f"format of the problems, where it is not recognised: {', '.join(FORMATS)}",
    )


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
    open_standard_streams()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  (until the end)
    try:
        if sys.stdout is None and not args.out:
            raise JudgeError("standard output is closed, so nobody would see the verdicts", "give --out FILE")
        return _run(args)
    except SandboxError as error:
        print(f"kiyas judge: the sandbox failed: {error}", file=sys.stderr)
        return 2
    except JudgeError as error:
        print(f"kiyas judge: {error}", file=sys.stderr)
        return 1
    except OutputError as error:
        hint = "; make room and run the same command again: it goes on from here" if args.out else ""
        print(f"kiyas judge: {args.out or 'standard output'}: cannot be written: {error}{hint}", file=sys.stderr)
        close_stdout()
        return 2
    except ReaderGoneError:
        close_stdout()  # the reader of our verdicts has seen enough
        return 0
    except KeyboardInterrupt:
        hint = "; the same command goes on from here" if args.out else ""
        print(f"\nkiyas judge: interrupted{hint}", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    problems = {problem.id: problem for problem in read_problems(args.problems, args.format)}
    tier = tiers.choose(args.isolation, args.python)
    files = program_files(args.programs)
    expected, asked = _check_programs(files, problems)
    meta = _settings(args, files, tier)
    how: dict[str, Any] = {
        "mode": args.mode,
        "limits": Limits(args.time_limit, args.memory_limit),
        "workers": args.workers,
        "isolation": tier.value,
        "python": args.python,
        "tolerance": args.tolerance,
    }
    if args.tolerance == "statement" and args.mode != "livecodebench" and (allowed := with_statement(asked.values())):
        print(
            f"{len(allowed)} of {len(asked)} problems are judged within the error that their statement allows: "
            f"{', '.join(allowed[:SHOWN])}{', …' if len(allowed) > SHOWN else ''}",
            file=sys.stderr,
        )
    rule = ExtractionRule(args.extraction)
    with contextlib.ExitStack() as stack:
        done, findings, once = 0, None, Once()
        out: IO[bytes] = sys.stdout.buffer
        everything = (for_problem(program, asked[program.problem_id], rule) for program in read_programs(files))
        if args.out:
            path = Path(args.out)
            done, findings = resume(path, meta, [*files, Path(args.problems)], everything, once)
        if findings is None:
            findings = prove(asked.values(), **how, progress=_proving())
        # Refuses what cannot be judged before --out is touched; runs nothing yet.
        sound(asked.values(), findings, args.problems)
        for line in in_words(findings, len(asked)):
            print(line, file=sys.stderr)
        refused = {finding.problem_id: finding.reason for finding in findings if finding.refused}
        programs, ahead = tee(everything)
        verdicts = judge(
            (program for program in ahead if program.problem_id not in refused and once.is_new(program)),
            asked,
            **how,
            after_timeout=args.after_timeout,
            stop_early=args.stop_early,
        )
        if args.out:
            remember(path, meta, findings)
            out = stack.enter_context(path.open("ab", buffering=0))
        if done:
            print(f"{args.out}: {done} of {expected} verdicts are there already", file=sys.stderr)
        stack.callback(verdicts.close)  # type: ignore[attr-defined]
        tally = Tally(expected - done, args.mode == "both")
        for program in programs:
            if program.problem_id in refused:
                row = {"verdict": None, "detail": f"the problem is refused: {refused[program.problem_id]}"}
            elif (known := once.recall(program)) is not None:
                row = known
            else:
                row = next(verdicts).to_row()
                once.remember(program, row)
            write(out, program, row)
            tally.count(program, row)
        tally.say(once.reused)
    print(f"isolation: {tier}", file=sys.stderr)
    return 2 if tally.counts[Outcome.IE] else 0


def _proving() -> Callable[[int, int], None]:
    """Shows how far the proof of the problems is."""
    shown: list[Progress] = []

    def step(done: int, total: int) -> None:
        if not shown:
            shown.append(Progress(total, "proving the problems: "))
        shown[0].step(done)
        if done == total:
            shown[0].end()

    return step


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
        "after_timeout": args.after_timeout,
        "stop_early": args.stop_early,
        "extraction": args.extraction,
        "tolerance": args.tolerance,
        "problems": digest(Path(args.problems)),
        "programs": [digest(file) for file in files],
        "kiyas_version": VERSION,
        "python_version": platform.python_version(),
        "platform": platform.platform(),
    }
