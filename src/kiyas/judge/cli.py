"""`kiyas judge`: verdicts as JSONL on stdout or in a file, progress on stderr."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import tee
from pathlib import Path
from typing import Any, TypeVar

from . import tiers, trust
from .formats import FORMATS, UNCLAIMED, read_problems
from .once import Once, short_digest
from .pool import allow_limits, judge, usable_cores
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
    Problem,
    Program,
    SandboxError,
    Tier,
    ToleranceRule,
    unfit,
)
from .verdict_file import (
    OutputError,
    Progress,
    ReaderGoneError,
    Tally,
    VerdictFile,
    close_stdout,
    digest,
    line_of,
    write,
)
from .verdict_table import VerdictTable
from .version import VERSION

SHOWN = 5
TRUST = "trust the interpreter that came with these files, or weak isolation; remembered until it changes"
MOST_WORKERS = 1024
Number = TypeVar("Number", int, float)
DESCRIPTION = """\
Run programs on test cases and say what happened: AC, WA, TLE, MLE, RE, OLE, CE (IE: the sandbox failed).
Verdicts come in input order: a table on a terminal, JSON lines elsewhere and in --out. Progress goes to stderr.

examples:
  kiyas judge programs.jsonl --problems problems.jsonl --out verdicts.jsonl
  kiyas judge double.py --problems problems.jsonl          # a file has the name of its problem; a folder of them, too

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
        help="files (.jsonl, .json, .gz, .py), folders or quoted globs with programs or model answers",
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
    parser.add_argument("--workers", type=_workers, metavar="N", help="programs at once (default: CPU cores)")
    parser.add_argument(
        "--time-limit", type=time_limit, metavar="S", help="CPU seconds per test, over the problem's own (default 6)"
    )
    parser.add_argument(
        "--memory-limit",
        type=_memory_limit,
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
    parser.add_argument("--json", action="store_true", help="JSON lines on a terminal, too")
    parser.add_argument("--out", metavar="FILE", help="append verdicts to this file; run again to resume")
    parser.add_argument(
        "--python", metavar="PATH", help="interpreter for the programs, with its packages (default: ours, with none)"
    )
    parser.add_argument("--trust", action="store_true", help=TRUST)
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


def time_limit(text: str) -> float:
    return _limit("time_limit_s", float(text))


def _memory_limit(text: str) -> int:
    return _limit("memory_limit_mb", int(text))


def _limit(name: str, value: Number) -> Number:
    if wrong := unfit(name, value):
        raise argparse.ArgumentTypeError(wrong)
    return value


def _workers(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text} workers make no sense: 1 to {MOST_WORKERS}")
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
    try:
        problems = {problem.id: problem for problem in read_problems(args.problems, args.format)}
    except InputError as error:
        if error.hint == UNCLAIMED:
            error.hint += "; or name the format: --format"
        raise
    given = map(Path, [*args.programs, args.problems, *([args.out] if args.out else [])])
    trust.allow(args.python, map(trust.folder_of, given), trust=args.trust)
    allow_limits(args.workers or usable_cores())
    tier = tiers.choose(args.isolation, args.python)
    files = program_files(args.programs)
    expected, asked = _check_programs(files, problems)
    settings = _settings(args, tier)
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
    rule, once = ExtractionRule(args.extraction), Once(asked.values(), settings)

    def everything() -> Iterator[Program]:
        return (for_problem(program, asked[program.problem_id], rule) for program in read_programs(files))

    with contextlib.ExitStack() as stack:
        inputs = [*files, Path(args.problems)]
        file = stack.enter_context(VerdictFile(Path(args.out), settings, inputs, once)) if args.out else None
        findings = file.findings if file is not None else None
        if findings is None:
            findings = prove(asked.values(), **how, progress=_proving())
        # Refuses what cannot be judged before --out is touched; runs nothing yet.
        sound(asked.values(), findings, args.problems)
        for line in in_words(findings, len(asked)):
            print(line, file=sys.stderr)
        refused = {finding.problem_id: finding.reason for finding in findings if finding.refused}

        def known(program: Program) -> dict[str, Any] | None:
            if program.problem_id in refused:
                return {"verdict": None, "detail": f"the problem is refused: {refused[program.problem_id]}"}
            return once.recall(once.key(program))

        def line_in_file(program: Program, row: dict[str, Any]) -> bytes:
            return line_of(program, row, once.key(program))

        there, in_order = _there(file, everything(), known, line_in_file)
        if file is not None:
            done = there.total()
            if not in_order and (gone := file.drop({once.key(program) for program in everything()})):
                words = f"{gone} of its rows are of programs or tests that the input no longer has"
                print(f"{args.out}: {words}; they are now in {file.removed}", file=sys.stderr)
            if done:
                print(f"{args.out}: {done} of {expected.total()} verdicts are there already", file=sys.stderr)
            file.remember(findings, {"problems": digest(inputs[-1]), "programs": [digest(each) for each in files]})
        out = file.append() if file is not None else sys.stdout.buffer
        programs, ahead = tee(everything())
        verdicts = judge(
            (program for program in ahead if program.problem_id not in refused and once.is_new(program)),
            asked,
            **how,
            after_timeout=args.after_timeout,
            stop_early=args.stop_early,
        )
        stack.callback(verdicts.close)  # type: ignore[attr-defined]
        tally = Tally(expected, there.total(), args.mode == "both")
        table = None if file is not None or args.json or not sys.stdout.isatty() else VerdictTable(everything())
        if table is not None:
            write(out, table.head())
        for program in programs:
            row = known(program)
            if file is not None and row is not None and there[seen := short_digest(line_in_file(program, row))] > 0:
                there[seen] -= 1
                tally.there(program, row)
                continue
            if row is None:
                row = next(verdicts).to_row()
                once.remember(once.key(program), row)
            elif program.problem_id not in refused:
                once.reused += 1
            if table is not None:
                tally.hide()
                write(out, table.line(program, row))
            else:
                write(out, line_of(program, row) if file is None else line_in_file(program, row))
            tally.count(program, row)
        if file is not None and not in_order:
            file.rewrite(line_in_file(program, row) for program in everything() if (row := known(program)) is not None)
        tally.say(once.reused)
    print(f"isolation: {tier}", file=sys.stderr)
    return 2 if tally.broken or tally.failed else 0


def _there(
    file: VerdictFile | None,
    programs: Iterator[Program],
    known: Callable[[Program], dict[str, Any] | None],
    line: Callable[[Program, dict[str, Any]], bytes],
) -> tuple[Counter[bytes], bool]:
    """Digests of the rows that the file has for these programs, and whether it begins as they do, with nothing else."""
    if file is None or not file.rows:
        return Counter(), True
    left, there, in_order, number = Counter(file.rows), Counter[bytes](), True, 0
    for number, program in enumerate(programs, 1):
        row = known(program)
        seen = b"" if row is None else short_digest(line(program, row))
        in_order &= number > len(file.rows) or seen == file.rows[number - 1]
        if left[seen] > 0:
            left[seen] -= 1
            there[seen] += 1
    return there, in_order and number >= len(file.rows)


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


def _check_programs(files: list[Path], problems: dict[str, Problem]) -> tuple[Counter[str], dict[str, Problem]]:
    """How many programs each problem has, and the problems. A mistake in the last line must not cost an hour."""
    count, asked = Counter[str](), {}
    for program in read_programs(files):
        count[program.problem_id] += 1
        asked[program.problem_id] = problem_of(program, problems)
    if not count:
        raise InputError(
            ", ".join(map(str, files)), 0, "no programs in it", "give a file with one program on each line"
        )
    return count, asked


def _settings(args: argparse.Namespace, tier: Tier) -> dict[str, Any]:
    """What a verdict depends on besides the problem and the program."""
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
        "kiyas_version": VERSION,
        "python_version": platform.python_version(),
        "platform": platform.platform(),
    }
