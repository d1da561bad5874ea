"""The command line: parse, call, print. stdout is data, stderr is progress.

Exit codes: 0 fine, 1 the user's mistake or the machine's limit, 2 our bug or a failed sandbox.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import shutil
import signal
import sys
import textwrap
import traceback
import webbrowser
from collections.abc import Callable
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, get_args

from kiyas.judge import JudgeError, SandboxError, Tier, interrupt, pulse, terminal, trust
from kiyas.judge import cli as judge_cli
from kiyas.judge.types import Isolation
from kiyas.judge.version import VERSION
from kiyas.runfolder.files import atomic_text, read_sealed
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.types import KiyasError, Problems, did_you_mean

# What is heavy (numpy, pydantic, torch) is imported by the commands that need it, so that `kiyas --help` is quick.

Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"

EPILOG = """\
first steps:
  kiyas demo                      a whole study on the embedded practice world, in minutes
  kiyas init my-study.yaml        a study file to start from; edit it, then:
  kiyas check my-study.yaml       every mistake at once, before anything is spent
  kiyas run my-study.yaml         train, generate, judge, analyse, report; the same command resumes
  kiyas judge answers.jsonl --problems problems.jsonl
  kiyas import results/ logs/ --problems problems.jsonl --out runs/theirs
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    _open_streams()
    before = os.getenv("PYTHONSAFEPATH")
    # No child that we start may import what lies in the working folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        with terminal.only_printable():
            return _main(arguments)
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]


def _main(arguments: list[str] | None) -> int:
    parser = build_parser()
    args, rest = parser.parse_known_args(arguments)
    # argparse gives up on KEY=VALUE after an option; we do not.
    if rest and hasattr(args, "overrides") and all("=" in word and word[0] != "-" for word in rest):
        args.overrides += rest
    elif rest:
        args.parser.error(f"unknown: {' '.join(rest)}{did_you_mean(rest[0], args.parser.options)}")
    if not hasattr(args, "call"):
        parser.print_help()
        return 0
    interrupt.leaves(args.stopped)
    try:
        _need_working_folder()
        with pulse.beating(args.parser.prog):
            code = int(args.call(args) or 0)
        sys.stdout.flush()
        return code
    except SandboxError as error:
        print(f"kiyas: the sandbox failed (nothing was counted against a program): {error}", file=sys.stderr)
        return 2
    except (KiyasError, JudgeError) as error:
        print(f"kiyas: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _stopped(args)
    except MemoryError:
        print("kiyas: this machine ran out of memory; the same command continues from here", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if not _is_about_output(error):
            return _our_bug(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"kiyas: cannot write to standard output: {error.strerror or error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if not str(error).startswith("Symlink loop"):  # how pathlib says it
            return _our_bug(error)
        print(f"kiyas: {error}: a link that leads to itself cannot be read", file=sys.stderr)
        return 1
    except Exception as error:  # noqa: BLE001 (the last line of defence: our bug, reported as such)
        return _stopped(args) if interrupt.came() else _our_bug(error)


def _stopped(args: argparse.Namespace) -> int:
    interrupt.leaves(args.stopped)  # an import knows only later what it keeps
    interrupt.say()
    return 130


def _open_streams() -> None:
    """A closed stream is one into nothing, and a character that a terminal cannot show becomes its escape."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _need_working_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise KiyasError(
            f"the folder that this command was given in cannot be read: {error.strerror or error}",
            "change to a folder that exists (cd ~) and give the command again",
        ) from None


def _is_about_output(error: OSError) -> bool:
    """Whether standard output cannot be written, say because the disk behind it is full: it has no file name."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF)


def _print_json(value: Any, indent: int) -> None:
    """As JSON, whatever the terminal can show: what it cannot is written as JSON's own escape."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, indent=indent, ensure_ascii=not unicode)
    # Data, and for a terminal too: what no terminal gets is its escape, not a sign of loss.
    print(terminal.ORDERS.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def _our_bug(error: Exception) -> int:
    print(f"kiyas: this should not have happened: {type(error).__name__}: {error}", file=sys.stderr)
    if os.environ.get("KIYAS_DEBUG"):
        traceback.print_exception(error)
    else:
        print("  hint: set KIYAS_DEBUG=1 and run the same command again for details", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    @property
    def options(self) -> list[str]:
        return [option for action in self._actions for option in action.option_strings]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse, which names all choices, and not the one that was meant."""
        if action.choices is not None and value not in action.choices:
            choices = list(map(str, action.choices))
            meant = did_you_mean(str(value), choices)
            if action.metavar == "COMMAND" and str(value).endswith((".yaml", ".yml")):
                meant = f"; did you mean {self.prog} run {value}?"
            what = f"{value!r} is not one of {', '.join(choices)}{meant}"
            raise argparse.ArgumentError(action, what)

    def error(self, message: str) -> NoReturn:
        """A mistake on the command line is the user's: exit code 1, not argparse's 2."""
        print(f"{self.prog}: {message}\n  hint: {self.prog} --help", file=sys.stderr)
        raise SystemExit(1)


def build_parser() -> argparse.ArgumentParser:
    """All commands and options. Help texts are written to be read on their own."""
    parser = _Parser(
        prog="kiyas",
        description="Which training data makes the better code model? Fine-tune, run the programs, and claim only "
        "what the numbers show.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"kiyas {VERSION}")
    parser.set_defaults(parser=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in (
        _add_demo,
        _add_init,
        _add_check,
        _add_run,
        _add_runs,
        _add_status,
        _add_verify,
        _add_report,
        _add_ask,
        _add_export,
        _add_judge,
        _add_import,
        _add_compare,
        _add_doctor,
        _add_keys,
        _add_schema,
        _add_completion,
    ):
        add(commands)
    return parser


def _command(
    commands: Commands,
    name: str,
    call: Callable[[argparse.Namespace], Any],
    help: str,
    text: str,
    stopped: str = "nothing was changed",
) -> argparse.ArgumentParser:
    """`stopped`: what Ctrl-C leaves behind, and how to continue."""
    command = commands.add_parser(
        name,
        help=help,
        description=textwrap.dedent(text),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(call=call, stopped=stopped, parser=command)
    return command


# -- what several commands share -------------------------------------------------------------------------------------


def _study_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("study", type=Path, metavar="STUDY", help="the study file (YAML), or a run folder")
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as training.learning_rate=1e-4")


def _trust_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--trust", action="store_true", help=judge_cli.TRUST)


def _runs_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="default: runs")


def _json_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON instead of the text")


def _run_options(command: argparse.ArgumentParser) -> None:
    _trust_option(command)
    stages = [stage.value for stage in Stage]
    _runs_option(command)
    command.add_argument("--until", choices=stages, default=Stage.REPORT.value, help="stop after this stage")
    command.add_argument(
        "--redo", choices=stages, help="discard the results of this stage and later ones, and make them again"
    )
    command.add_argument("--limit", type=int, metavar="N", help="only the first N problems")
    command.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="train, answer and judge on the nodes of this Ray cluster (auto: the one that this machine belongs to)",
    )
    command.add_argument(
        "--max-hours", type=float, metavar="H", help="stop at a saved state after so many hours, such as 11.5"
    )


def _names(folder: str, suffix: str) -> list[str]:
    """The choices in a folder of the package, found without importing it."""
    found = (path.name for path in (resources.files("kiyas") / folder).iterdir())
    return sorted(name.removesuffix(suffix) for name in found if name.endswith(suffix))


def _preset(name: str) -> str:
    return (resources.files("kiyas") / "study" / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def _overrides(args: argparse.Namespace) -> list[str]:
    limit = [f"benchmarks.primary.problems={args.limit}"] if getattr(args, "limit", None) is not None else []
    return [*args.overrides, *limit]


KEPT = "what was saved is kept in the run folder; the same command continues from there"


def _width(most: int | None = 100) -> int:
    """Columns of the terminal, `most` of them; as many where the output goes elsewhere."""
    columns = shutil.get_terminal_size((100, 24)).columns
    return columns if most is None else min(most, columns)


def _print_wrapped(text: str) -> None:
    """Lines that are too long for the terminal go on below, indented; a program that reads them gets them whole."""
    if not sys.stdout.isatty():
        print(text)
        return
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        for part in textwrap.wrap(line, _width(), subsequent_indent=indent, drop_whitespace=False) or [""]:
            print(part.rstrip())


def _coloured() -> bool:
    return terminal.moves(sys.stdout) and not os.getenv("NO_COLOR")


def _print_coloured(text: str, end: str = "\n") -> None:
    """Text that cleans what it quotes: on a terminal its colours are ours."""
    print(text, end=end, file=terminal.raw(sys.stdout) if sys.stdout.isatty() else sys.stdout)


def _go(
    settings: Any, text: str, args: argparse.Namespace, file: Path | None = None, folder: RunDir | None = None
) -> int:
    from kiyas.study.file import refuse_untrusted

    folder = folder or RunDir(args.runs / settings.name)
    refuse_untrusted(settings, file, folder.root, _overrides(args), trust=args.trust)
    _need_torch()
    from kiyas.pipeline import stages

    redo = Stage(args.redo) if args.redo else None
    ended = stages.run(
        settings,
        folder,
        file=file,
        text=text,
        overrides=_overrides(args),
        until=Stage(args.until),
        redo=redo,
        max_hours=args.max_hours,
        ray=args.ray,
    )
    if not ended:
        return 0
    if args.until == Stage.REPORT:
        _print_findings(folder, settings.report.language)
    else:
        print(f"stopped after {args.until}, as requested; run folder: {folder.root}", file=sys.stderr)
    return 0


def _need_torch() -> None:
    import importlib.util

    missing = [
        name
        for name in ("torch", "transformers", "safetensors", "datasketch")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise KiyasError(
            f"training and generating need packages that are not installed: {', '.join(missing)}",
            "pip install 'kiyas[train]' (judge, import and report work without it)",
        )


def _print_findings(folder: RunDir, language: str) -> None:
    from kiyas import report
    from kiyas.analyse import Findings

    findings = Findings.from_json(read_sealed(folder.findings))
    _print_coloured(report.text(findings, language=language, width=_width(), color=_coloured()))
    print(f"\nreport: {(folder.report / 'index.html').resolve()}")


def _renamed(pairs: list[str], form: str) -> dict[str, str]:
    """The values of --arm."""
    arms = {}
    for pair in pairs:
        text, equals, arm = pair.partition("=")
        if not equals or not text or not arm:
            raise KiyasError(f"--arm {pair!r}: expected {form}")
        arms[text] = arm
    return arms


# -- the commands, in the order of the help --------------------------------------------------------------------------


def _add_demo(commands: Commands) -> None:
    demo = _command(
        commands,
        "demo",
        _demo,
        "a whole study on the embedded practice world",
        """\
        Runs the practice study: a tiny base model, two training sets (few problems with five solutions each, many
        problems with one), two seeds, 41 problems. Nothing is downloaded. Everything shown is computed here.""",
        stopped=KEPT,
    )
    _run_options(demo)
    demo.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, such as seeds=3")


def _demo(args: argparse.Namespace) -> int:
    from kiyas.study.file import parse

    text = _preset("practice")
    return _go(parse(text, "practice.yaml", Path.cwd(), _overrides(args)), text, args)


def _add_init(commands: Commands) -> None:
    init = _command(
        commands,
        "init",
        _init,
        "write a study file to start from",
        """\
        Writes a commented study file, in which the lines to edit are marked with <-; nothing is asked. Presets:
        own-data (your two files); own-checkpoints (you have trained already); practice (what `kiyas demo` runs);
        deep-vs-diverse (the study Kıyas grew from, as we would do it), -as-published (as it was done), -reasoning
        (with the reasoning before the code).""",
    )
    init.add_argument("file", nargs="?", type=Path, default=Path("study.yaml"), help="default: study.yaml")
    init.add_argument(
        "--preset", choices=_names("study/presets", ".yaml"), default="own-data", help="default: own-data"
    )


def _init(args: argparse.Namespace) -> int:
    if args.file.exists():
        raise KiyasError(f"{args.file} exists already; nothing was written", "give another file name")
    text = _preset(args.preset)
    atomic_text(args.file, text)
    marked = [str(number) for number, line in enumerate(text.splitlines(), 1) if "# <-" in line]
    edit = f"edit the lines marked <- ({', '.join(marked)}), then" if marked else "next"
    print(f"wrote {args.file}; {edit}: kiyas check {args.file}", file=sys.stderr)
    return 0


CARD_NAMES = (
    "t4",
    "l4",
    "a10g",
    "rtx3090",
    "rtx4090",
    "24gb",
    "l40s",
    "a100-40",
    "a100-80",
    "h100",
    "h200",
    "b200",
)


def _add_check(commands: Commands) -> None:
    check = _command(
        commands,
        "check",
        _check,
        "before you spend: mistakes, data, leaks, costs, and the difference that the study can detect",
        """\
        Reads the study file, the data, the benchmark and the tokenizer, and checks what each arm really contains,
        leaks and contamination, the chat template, memory, time and disk, and which difference this study detects 4
        times in 5. Every warning names its consequence. Writes nothing. Exit code 1: the study cannot run.""",
        stopped="nothing was written; the same command begins again",
    )
    _study_options(check)
    _trust_option(check)
    check.add_argument("--json", action="store_true", help="print every measured fact as one JSON document")
    costs = check.add_mutually_exclusive_group()
    costs.add_argument(
        "--fast", action="store_true", help="leave out the estimates of time, memory and disk; takes seconds"
    )
    costs.add_argument(
        "--card",
        type=str.lower,
        choices=CARD_NAMES,
        help="estimate memory and hours for this GPU instead of this machine",
    )
    costs.add_argument(
        "--cluster",
        metavar="CARDS",
        help="estimate hours, memory, disk, failures and the bottleneck on many GPUs, such as 8xH100,2xT4; only the "
        "configuration and the tokenizer of the base are needed",
    )


def _check(args: argparse.Namespace) -> int:
    from kiyas.runfolder.record import given_study
    from kiyas.study.file import refuse_untrusted

    given = given_study(args.study, _overrides(args))
    settings = given.study
    refuse_untrusted(settings, given.file, None, _overrides(args), trust=args.trust)
    _need_torch()
    from kiyas.check import check
    from kiyas.check.cards import CARDS
    from kiyas.check.cluster import parsed
    from kiyas.check.page import page

    cluster = parsed(args.cluster) if args.cluster is not None else None
    checked = check(settings, CARDS[args.card] if args.card else None, fast=args.fast, cluster=cluster)
    if args.json:
        _print_json(checked.to_json(), 2)
    else:
        _print_coloured(page(checked, width=_width(), color=_coloured()), end="")
    # `kiyas run` refuses data that is not what the study expects.
    return int(any(remark.code == "not_as_expected" for remark in checked.remarks))


def _add_run(commands: Commands) -> None:
    run = _command(
        commands,
        "run",
        _run,
        "run a study, or continue it",
        """\
        Runs the stages data, train, generate, judge, analyse and report, into runs/NAME. After a stop or a kill, the
        same command continues, and ends with the same findings. If the study file changed, results that are no longer
        valid are not reused. If STUDY is a run folder, or the study file in it, the command continues that run, from
        any folder; with name=OTHER it starts a new run under that name.""",
        stopped=KEPT,
    )
    _study_options(run)
    _run_options(run)


def _run(args: argparse.Namespace) -> int:
    from kiyas.runfolder.record import given_study

    given = given_study(args.study, _overrides(args))
    text = given.file.read_text(encoding="utf-8") if given.file.is_file() else ""
    return _go(given.study, text, args, given.file, given.folder)


def _add_runs(commands: Commands) -> None:
    runs = _command(
        commands,
        "runs",
        _runs,
        "list all runs, the newest first",
        "Lists the run folders in runs/ (or in FOLDER): how far each is, what it concludes in a few words, and when\n"
        "something in it was last written. `kiyas status RUN` says more.",
    )
    runs.add_argument("runs", nargs="?", type=Path, default=Path("runs"), metavar="FOLDER", help="default: runs")
    _json_option(runs)


def _runs(args: argparse.Namespace) -> int:
    from kiyas.pipeline import status

    found = status.runs(args.runs)
    if args.json:
        _print_json([asdict(each) for each in found], 2)
    else:
        _print_coloured(status.runs_table(found, _width(None), color=_coloured()), end="")
    return 0


def _add_status(commands: Commands) -> None:
    status = _command(
        commands,
        "status",
        _status,
        "how far a run is",
        "Shows the stages of a run folder, what is left to do, and what was found so far. Exit code 1 where a file\n"
        "that the run rests on is damaged.",
    )
    status.add_argument(
        "run", nargs="?", type=Path, metavar="RUN", help="a run folder, such as runs/practice (default: the newest)"
    )
    _runs_option(status)
    _json_option(status)


def _status(args: argparse.Namespace) -> int:
    from kiyas.pipeline import status

    found = status.status(RunDir(args.run) if args.run is not None else status.newest(args.runs))
    if args.json:
        _print_json(found.to_json(), 2)
    else:
        _print_wrapped(str(found))
    return 0 if found.sound else 1


def _add_verify(commands: Commands) -> None:
    verify = _command(
        commands,
        "verify",
        _verify,
        "check every file of a run folder against what was written",
        """\
        Reads every file of a run, weights included, and compares its digest with the one that was noted when the file
        was made. Exit code 1 where a file was changed, damaged, cut or removed: each one is named, with the stage that
        made it and the command that mends it.

        examples:
          kiyas verify runs/mine
          kiyas verify runs/mine --accept judge/judgments.jsonl --reason "problem 12 had a wrong test"
          kiyas verify runs/mine --restore       # resolved.json, as the last finished stage knew it""",
    )
    verify.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    verify.add_argument(
        "--accept", metavar="FILE", help="take a changed file as it is now; the report says so, with the reason"
    )
    verify.add_argument("--reason", metavar="TEXT", help="with --accept: why")
    verify.add_argument("--restore", action="store_true", help="write a lost or damaged resolved.json again")
    _json_option(verify)


def _verify(args: argparse.Namespace) -> int:
    from kiyas.pipeline import verify

    if (args.accept is None) != (args.reason is None) or (args.reason is not None and not args.reason.strip()):
        raise KiyasError("--accept FILE and --reason TEXT belong together", "the report quotes the reason")
    found = verify.verify(RunDir(args.run), accepted=args.accept, reason=args.reason or "", restore=args.restore)
    if args.json:
        _print_json(found.to_json(), 2)
    else:
        _print_wrapped(str(found))
    return 0 if found.sound else 1


def _add_report(commands: Commands) -> None:
    report = _command(
        commands,
        "report",
        _report,
        "write the report of a run again, or print it",
        """\
        Writes report/index.html, report.md, figures and tables from what was judged, and prints the result table.
        In a language that is not the study's own, it writes index.LANGUAGE.html, report.LANGUAGE.md and so on.
        Works on unfinished runs and on imports.""",
        stopped="what was judged is kept; the same command writes the report whole",
    )
    report.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    report.add_argument("--language", choices=_names("report/phrases", ".toml"), help="default: the study's own")
    report.add_argument("--text", action="store_true", help="print only; write nothing")
    report.add_argument("--open", action="store_true", help="open the page in the browser")


def _report(args: argparse.Namespace) -> int:
    from kiyas import report
    from kiyas.analyse import analyse
    from kiyas.pipeline import stages
    from kiyas.runfolder.record import read_record

    if args.open and args.text:
        raise KiyasError("--text writes no page, so --open has nothing to show", "leave one of them out")
    folder = RunDir(args.run)
    language = args.language or read_record(folder).language
    findings, page = (analyse(folder.root), None) if args.text else stages.redraw(folder, language)
    _print_coloured(report.text(findings, language=language, width=_width(), color=_coloured()))
    if page is not None:
        print(f"\nreport: {page.resolve()}")
    if page is not None and args.open and not webbrowser.open(page.resolve().as_uri()):
        print("no browser could be started here: open the page yourself", file=sys.stderr)
    return 0


def _add_ask(commands: Commands) -> None:
    ask = _command(
        commands,
        "ask",
        _ask,
        "base and arms answer one problem, side by side",
        """\
        The base and every arm of a finished run answer one problem, prompted as in the study. Their programs run on the
        tests of the problem's row, or on the samples in its statement. Nothing is written into the run folder. FILE is
        a statement (text, Markdown) or a row in a format that `kiyas judge` reads; without FILE, or with -, it is read
        from standard input. Each arm answers with the checkpoint that the report uses, from the study's first seed.

        examples:
          kiyas ask runs/mine statement.txt
          kiyas ask runs/mine problems.jsonl --problem abc373_a --samples 5 --temperature 0.8
          kiyas ask runs/mine --arm deep@1 < statement.md""",
    )
    ask.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")
    ask.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: standard input")
    ask.add_argument("--problem", metavar="ID", help="the row to use, if FILE has several")
    ask.add_argument(
        "--arm", action="append", default=[], metavar="ARM[@SEED]", help="only this arm and the base (may be repeated)"
    )
    ask.add_argument("--seed", type=int, metavar="S", help="use this seed of every arm (default: the study's first)")
    ask.add_argument("--samples", type=int, metavar="N", help="answers of each model (default: 1)")
    ask.add_argument("--temperature", type=float, metavar="T", help="default: the study's own")
    ask.add_argument(
        "--isolation",
        choices=[isolation.value for isolation in Isolation],
        default="strong",
        metavar="TIER",
        help="default: strong; the tiers are those of `kiyas judge`",
    )
    _trust_option(ask)
    _json_option(ask)


def _ask(args: argparse.Namespace) -> int:
    _need_torch()
    from kiyas.pipeline import ask
    from kiyas.runfolder.record import read_record

    folder = RunDir(args.run)
    study = read_record(folder).study
    given = args.file is not None and str(args.file) != "-"
    if study is not None:
        folders = [folder.root, *([trust.folder_of(args.file)] if given else [])]
        trust.allow(study.judge.python, folders, trust=args.trust)
    data = ask.read_source(args.file) if given else ask.read_typed()
    problem, tests_from = ask.read_problem(data, str(args.file) if given else "standard input", args.problem)
    wanted = ask.Wanted(tuple(args.arm), args.seed, args.samples, args.temperature, args.isolation)
    found = ask.ask(folder, problem, tests_from, wanted)
    if args.json:
        _print_json(found.to_json(), 2)
    else:
        print(found.text(shutil.get_terminal_size((100, 24)).columns), end="")
    return 0


def _add_export(commands: Commands) -> None:
    export = _command(
        commands,
        "export",
        _export,
        "an arm's adapter or merged model, with a model card, in a folder or on the Hub",
        """\
        Writes a folder that others can load: the adapter for PEFT, or with --merged a whole model for transformers. Its
        README.md is a model card with the study's figures, their intervals and the conclusion. The run folder does not
        change. Without @SEED, the first of the study's seeds is exported, not the best one; of it, the checkpoint that
        the study's rule chooses.

        examples:
          kiyas export runs/mine deep
          kiyas export runs/mine deep@1 --merged --out deep-model
          kiyas export runs/mine deep --push owner/name            # private, unless --public is given""",
        stopped="no folder was written; the same command begins again",
    )
    export.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")
    export.add_argument("arm", metavar="ARM[@SEED]", help="such as deep, or deep@1")
    export.add_argument("--merged", action="store_true", help="a whole model: the base with the adapter merged into it")
    export.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder (default: named after study and arm)")
    export.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="with --merged: number format of the weights; auto (default): that of the run",
    )
    export.add_argument(
        "--variant",
        metavar="NAME",
        help="a point of the learning-rate grid, such as lr-0.0002 (default: as in the report)",
    )
    export.add_argument(
        "--step", type=int, metavar="N", help="the checkpoint at this step (default: as the study's rule chooses)"
    )
    export.add_argument(
        "--license", metavar="ID", help="for the card, such as apache-2.0 (default: the base's licence, else unknown)"
    )
    export.add_argument("--push", metavar="OWNER/NAME", help="also upload it to this repository on the Hub")
    export.add_argument(
        "--public", action="store_true", help="with --push: make a new repository public (default: private)"
    )


def _export(args: argparse.Namespace) -> int:
    if args.dtype is not None and not args.merged:
        raise KiyasError("--dtype is the number format of merged weights; an adapter is in float32", "add --merged")
    if args.public and args.push is None:
        raise KiyasError("--public needs --push", "add --push OWNER/NAME")
    _need_torch()
    from kiyas.export import Wanted, export
    from kiyas.study.settings import Dtype

    wanted = Wanted(
        args.arm,
        variant=args.variant,
        step=args.step,
        merged=args.merged,
        dtype=Dtype(args.dtype or Dtype.AUTO),
        licence=args.license,
        out=args.out,
        push=args.push,
        private=not args.public,
    )
    print(export(RunDir(args.run), wanted))
    return 0


def _add_judge(commands: Commands) -> None:
    judge = _command(
        commands,
        "judge",
        judge_cli.run,
        "judge programs: run them on tests and report what happened",
        judge_cli.DESCRIPTION,
    )
    judge_cli.add_arguments(judge)


def _add_import(commands: Commands) -> None:
    imported = _command(
        commands,
        "import",
        _import,
        "turn other people's logs and results into a run folder",
        """\
        Reads files and folders (searched through), recognised by what is in them:
          results   the course evaluator's detailed/*.jsonl, generations/*.json and evaluations/*.json, LiveCodeBench's
                    *_eval_all.json, lm-evaluation-harness's samples (--log_samples), verdicts of `kiyas judge`
          losses    trainer_state.json, CSV, JSON and JSONL logs
        Arm, step and seed come from the names of files and folders; --arm corrects them. Nothing is invented: an answer
        without a verdict counts as missing, totals alone are only compared, and everything unusual is listed here and
        in the report.

        examples:
          kiyas import outcomes/ logs/ --problems problems.jsonl --out runs/theirs && kiyas report runs/theirs
          kiyas import results/ --problems problems.jsonl --rejudge --out runs/theirs    # by our judge, not theirs
          kiyas import lm_eval_out/ --only samples_humaneval_ --rejudge --out runs/he     # one of several benchmarks
          kiyas import run-7/ run-8/ --arm 'run-7/*=deep' --arm 'run-8/*=diverse' --out runs/theirs""",
        stopped="nothing was imported; the same command begins again",
    )
    imported.add_argument("sources", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    imported.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder to make")
    imported.add_argument(
        "--problems",
        type=Path,
        metavar="FILE",
        help="the problems with their tests, in a format that `kiyas judge` reads",
    )
    imported.add_argument("--name", help="default: the run folder's name")
    imported.add_argument(
        "--arm",
        action="append",
        default=[],
        metavar="TEXT=ARM",
        help="files with TEXT in their name belong to ARM (base: the model before training)",
    )
    imported.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="read only files with TEXT (or a glob) in their path",
    )
    imported.add_argument(
        "--rejudge",
        action="store_true",
        help="run every recorded program on the problems' tests; our verdicts replace theirs, and RUN/judge/"
        "differences.csv lists the differences. The verdicts so far are kept until the import is written",
    )
    imported.add_argument(
        "--time-limit", type=judge_cli.time_limit, metavar="S", help="with --rejudge, as for `kiyas judge`"
    )
    imported.add_argument(
        "--isolation",
        choices=[isolation.value for isolation in Isolation],
        metavar="TIER",
        help="with --rejudge, as for `kiyas judge`",
    )
    imported.add_argument("--python", metavar="PATH", help="with --rejudge, as for `kiyas judge`")
    _trust_option(imported)


def _import(args: argparse.Namespace) -> int:
    from kiyas import interop
    from kiyas.study.settings import Judge

    if args.rejudge:
        args.stopped = f"nothing was imported, the verdicts so far are kept in {args.out}; the same command goes on"
    settings = {"time_limit_s": args.time_limit, "isolation": args.isolation, "python": args.python}
    given = {key: value for key, value in settings.items() if value is not None}
    if given and not args.rejudge:
        raise KiyasError("--time-limit, --isolation and --python only affect how programs are run", "add --rejudge")
    if args.python is not None and shutil.which(args.python) is None:
        raise KiyasError(f"--python {args.python}: no such interpreter here")
    given_files = [*args.sources, *([args.problems] if args.problems else [])]
    trust.allow(args.python, [args.out, *map(trust.folder_of, given_files)], trust=args.trust)
    summary = interop.import_study(
        args.sources,
        args.out,
        problems=args.problems,
        name=args.name or args.out.resolve().name,
        arm_of=_renamed(args.arm, "TEXT=ARM"),
        only=args.only,
        judge=Judge(**given) if args.rejudge else None,
    )
    print(summary, file=sys.stderr)
    if summary.judgments or summary.losses:
        print(f"\nnext: kiyas report {args.out}", file=sys.stderr)
    if summary.study is not None:
        runs = "" if args.out.resolve().parent == Path("runs").resolve() else f" --runs {args.out.parent}"
        print(f"\nnext: read {summary.study}, then kiyas run {summary.study}{runs}", file=sys.stderr)
    return 0


def _add_compare(commands: Commands) -> None:
    compare = _command(
        commands,
        "compare",
        _compare,
        "pool several runs of the same comparison",
        """\
        Pools replications, each a run folder or a row of a CSV file with the columns study, arm, solved and total:
        each difference, the pooled difference (random effects), and whether the replications agree. Runs on
        the same problems are paired by problem. A different base or recipe is reported, other arms or problems are
        refused, and a run with missing verdicts is left out. The difference is always the second arm minus the first.

        examples:
          kiyas compare runs/mine runs/yours runs/theirs --out runs/pooled     # page, figures, table, text
          kiyas compare runs/mine runs/old --arm 'many=diverse'                # one arm, two names
          kiyas compare published.csv --arms diverse deep                      # only counts are known:
              study,arm,solved,total
              first,deep,11,41
              first,diverse,13,41""",
        stopped="the runs were not changed; the same command begins again",
    )
    compare.add_argument("sources", nargs="+", type=Path, metavar="RUN", help="run folders or CSV files")
    compare.add_argument(
        "--arms",
        nargs=2,
        metavar=("A", "B"),
        help="the two arms: B minus A (default: the first run's own question, or the two arms of the first file)",
    )
    compare.add_argument(
        "--arm", action="append", default=[], metavar="OLD=NEW", help="the arm OLD of one source is NEW in the others"
    )
    compare.add_argument(
        "--problems",
        choices=get_args(Problems),
        default="same",
        help="refuse runs on different problems (default), compare on the shared ones, or evaluate each on its own",
    )
    compare.add_argument("--out", type=Path, metavar="FOLDER", help="write index.html, forest.*, pooled.csv, pooled.md")
    compare.add_argument("--language", choices=_names("report/phrases", ".toml"), default="en", help="default: en")
    compare.add_argument("--json", action="store_true", help="print JSON instead of the text")


def _compare(args: argparse.Namespace) -> int:
    from kiyas import pooling
    from kiyas.report import pooled

    names = _renamed(args.arm, "OLD=NEW")
    found = pooling.pool(args.sources, arms=args.arms, names=names, problems=args.problems)
    if args.json:
        _print_json(found.to_json(), 1)
    else:
        print(pooled.text(found, language=args.language, width=_width()), end="")
    if args.out is not None:
        page = pooled.write(args.out, found, language=args.language)
        print(f"\nreport: {page.resolve()}", file=sys.stderr)
    return 0


def _add_doctor(commands: Commands) -> None:
    doctor = _command(
        commands,
        "doctor",
        _doctor,
        "what this machine offers: isolation, memory, devices, versions",
        "Tests the judge's isolation and reports what holds, what does not, and why. With --attack, hostile programs\n"
        "try to get out of it or to cheat (about 15 seconds); exit code 2 if one of them succeeds.",
    )
    doctor.add_argument("--attack", action="store_true", help="attack the isolation of this machine")
    _json_option(doctor)
    doctor.add_argument(
        "--isolation",
        choices=[tier.value for tier in Tier if tier is not Tier.WEAK],
        default="strong",
        help="the tier to attack (default: strong)",
    )


def _doctor(args: argparse.Namespace) -> int:
    from kiyas.judge import self_check
    from kiyas.pipeline import status

    if args.attack and args.json:
        raise KiyasError("--attack prints a line for each attack, not JSON", "leave one of them out")
    if not args.attack:
        found = status.doctor()
        if args.json:
            _print_json(found, 2)
        else:
            _print_wrapped(status.doctor_text(found))
        return 0
    fallen = count = 0
    for name, fault in self_check(Tier(args.isolation)):
        count += 1
        fallen += bool(fault)
        print(f"  {'HOLDS' if not fault else 'FALLS'}  {name}{': ' * bool(fault)}{fault}", flush=True)
    print(f"{args.isolation}: {count - fallen} of {count} attacks held off")
    return 2 if fallen else 0


def _add_keys(commands: Commands) -> None:
    keys = _command(
        commands,
        "keys",
        _keys,
        "list the keys of the study file, with defaults and meanings",
        """\
        Every key of the study file: its default, what may be written, and what it means. With SECTION, the keys of that
        section, or one key.

        examples:
          kiyas keys training
          kiyas keys training.budget
          kiyas keys arms.NAME.from""",
    )
    keys.add_argument("section", nargs="?", default="", metavar="SECTION", help="such as training, or compare.matters")
    _json_option(keys)


def _keys(args: argparse.Namespace) -> int:
    from kiyas.study.keys import keys_of

    found = keys_of(args.section)
    if args.json:
        _print_json([asdict(each) for each in found], 2)
    else:
        print("\n".join(each.text(_width()) for each in found))
    return 0


def _add_schema(commands: Commands) -> None:
    _command(
        commands,
        "schema",
        _schema,
        "print the JSON Schema of the study file",
        """\
        Every key of the study file with its type, default and meaning, as JSON Schema: for reading, and for editors
        that complete and check YAML (`kiyas schema > study.schema.json`).""",
    )


def _schema(args: argparse.Namespace) -> int:
    from kiyas.study.settings import Study

    _print_json(Study.model_json_schema(), 2)
    return 0


SHELLS = ("bash", "zsh", "fish", "tcsh")


def _add_completion(commands: Commands) -> None:
    completion = _command(
        commands,
        "completion",
        _completion,
        "complete commands, options and files with the Tab key",
        """\
        Prints what teaches a shell to complete `kiyas` commands, options and files. Once, then open a new terminal:

          bash   kiyas completion bash > ~/.local/share/bash-completion/completions/kiyas   (make the folder first)
          zsh    kiyas completion zsh > "${fpath[1]}/_kiyas"
          fish   kiyas completion fish > ~/.config/fish/completions/kiyas.fish
          tcsh   kiyas completion tcsh >> ~/.tcshrc

        In this terminal only, bash: eval "$(kiyas completion bash)\"""",
    )
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def _completion(args: argparse.Namespace) -> int:
    import shtab

    parser = build_parser()
    for each in (parser, *_subparsers(parser)):
        for action in each._actions:
            if action.type is Path or action.metavar in ("PROGRAMS", "FILE"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, args.shell))
    return 0


def _subparsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    groups = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return [command for group in groups for command in group.choices.values()]
