"""What judging costs: Kıyas' tiers against a cold `python` per test and any other checker, each beside its floor.

    python benchmarks/judge.py PROGRAMS... --problems PROBLEMS [--repeat 3] [--user nobody]
        [--checker 'python other.py {programs} {problems} {out}' | --livecodebench] [--stop-early] [--mode both]

1. Programs that end by themselves: milliseconds per test that ran, the best of the repetitions, which take turns. Those
   that meet the time limit are timed apart (there the limit is what takes the time, whoever judges).
2. The mix: all programs, with those that meet the time limit, under `--mix-limit` (6 s, LiveCodeBench's own), as
   `kiyas judge` judges them by default (a program is stopped at its first time-out), and the other checker.
3. What a one-test program and each further test of a program cost one worker, by a small program with 1 and with 41
   tests; beside them the floors: fork, exit and wait of an interpreter as small as Python gets, and the same in new
   namespaces; and 20 assertions, in a process of their own and in the program's. Memory of a worker: proportional set
   size of the processes below the judge.

4. What it costs that a benchmark proves itself: `--proof` problems (1,055, as many as LiveCodeBench has) with 30 tests
   each by standard input, without and with an own solution, and as many with test code.

Nothing is isolated or prepared in the cold ways (`-I -S`: at its cheapest; `python`: as it is mostly done). `--checker`
gives a command that judges files in Kıyas' own formats, with as many workers as it likes; it is timed as a whole.
If it writes JSON lines with "passed" to {out}, programs on which it differs are listed. `--livecodebench` is such a
command: it installs the package `nvidia-livecodebench` in an environment of its own (numpy and tqdm beside it, nothing
else) and calls its checker with our number of workers. `--user` drops root first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kiyas.judge import (
    Limits,
    Outcome,
    Problem,
    Program,
    SandboxError,
    Test,
    Tier,
    Verdict,
    judge,
    prove,
    read_problems,
    read_programs,
)
from kiyas.judge.sandbox import Job, Sandbox, interpreter

FLOOR = """
import ctypes, os, time
unshare = ctypes.CDLL(None, use_errno=True).unshare
def timed(prepare, n=300):
    began = time.perf_counter()
    for _ in range(n):
        if (pid := os.fork()) == 0:
            os._exit(prepare())
        if os.waitpid(pid, 0)[1]:
            return float("nan")
    return (time.perf_counter() - began) / n
pss = next(line for line in open("/proc/self/smaps_rollup") if line.startswith("Pss:")).split()[1]
print(timed(lambda: 0), timed(lambda: -unshare(0x7E020000)), pss)  # user, pid, mount, net, ipc, uts, cgroup
"""
LIVECODEBENCH = """
import json, sys
from livecodebench.evaluation.compute_code_generation_metrics import evaluate_generations
programs, problems, out, workers, timeout = sys.argv[1:]
def rows(path):
    with open(path) as file:
        return [json.loads(line) for line in file]
def sample(row):
    tests = {"inputs": [t["input"] for t in row["tests"]], "outputs": [t["output"] for t in row["tests"]]}
    if "entry_point" in row:
        tests["fn_name"] = row["entry_point"].rpartition(".")[2]
    return {"input_output": json.dumps(tests)}
if __name__ == "__main__":
    samples = {row["id"]: sample(row) for row in rows(problems)}
    asked = rows(programs)
    results, _ = evaluate_generations(
        [samples[row["problem_id"]] for row in asked], [[row["program"]] for row in asked],
        num_process_evaluate=int(workers), timeout=max(1, round(float(timeout))),  # it sets an alarm of whole seconds
    )
    with open(out, "w") as file:
        for number in range(len(asked)):
            print(json.dumps({"passed": all(each is True or each == 1 for each in results[number][0])}), file=file)
"""
SMALL = "import sys\ndef solve(n):\n    return n * 2\nfor line in sys.stdin:\n    print(solve(int(line)))\n"
ASSERTIONS = "def check(f):\n    for n in range(20):\n        assert f(n) == 2 * n\ncheck(solve)\n"
Timing = tuple[float, int]


def judged(programs: list[Program], problems: list[Problem], args: argparse.Namespace, **how: object) -> list[Verdict]:
    return list(
        judge(programs, problems, limits=Limits(args.time_limit), stop_early=args.stop_early, **how)  # type: ignore[arg-type]
    )


def ran(verdicts: list[Verdict]) -> int:
    """Tests that were really run: a program that does not compile is tried once."""
    return sum(1 if verdict.verdict is Outcome.CE else len(verdict.tests) for verdict in verdicts)


def cold(programs: list[Program], problems: list[Problem], args: argparse.Namespace, options: list[str]) -> Timing:
    """A new interpreter for each test of each program that compiles."""
    known = {problem.id: problem for problem in problems}

    def run(program: Program) -> int:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "main.py"
            file.write_text(program.source, encoding="utf-8", errors="surrogatepass")
            tests = known[program.problem_id].tests
            try:
                compile(program.source, "main.py", "exec")
            except (SyntaxError, ValueError):
                tests = tests[:1]
            for number, test in enumerate(tests, 1):
                try:
                    done = subprocess.run(
                        [sys.executable, *options, str(file)],
                        input=test.input.encode(),
                        capture_output=True,
                        timeout=args.time_limit,
                    )
                    passed = done.returncode == 0 and done.stdout.split() == test.output.encode().split()
                except subprocess.TimeoutExpired:
                    passed = False
                if args.stop_early and not passed:
                    return number
            return len(tests)

    began = time.perf_counter()
    with ThreadPoolExecutor(args.workers) as pool:
        count = sum(pool.map(run, programs))
    return time.perf_counter() - began, count


def livecodebench(folder: str, workers: int) -> str:
    """The command that runs LiveCodeBench's checker, installed in this folder."""
    subprocess.run([sys.executable, "-m", "venv", f"{folder}/venv"], check=True)
    python = f"{folder}/venv/bin/python"
    wanted = ["-m", "pip", "install", "--quiet", "--no-deps", "nvidia-livecodebench==26.3", "numpy", "tqdm"]
    subprocess.run([python, *wanted], check=True)
    Path(f"{folder}/checker.py").write_text(LIVECODEBENCH, encoding="utf-8")
    return f"{python} {folder}/checker.py {{programs}} {{problems}} {{out}} {workers} {{limit}}"


def other_checker(command: str, files: dict[str, Path], limit: float) -> float:
    began = time.perf_counter()
    words = [word.format(**files, limit=limit) for word in shlex.split(command)]
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"the checker failed with exit code {done.returncode}")
    return time.perf_counter() - began


def compare_ways(programs: list[Program], problems: list[Problem], args: argparse.Namespace) -> None:
    tiers = [tier for tier in Tier if tier.value in args.tiers]
    first = judged(programs, problems, args, mode=args.mode, workers=args.workers, isolation=tiers[0].value)
    slow = {id(v.program) for v in first if any(test.verdict is Outcome.TLE for test in v.tests)}
    kept = [program for program in programs if id(program) not in slow]
    began = time.perf_counter()
    if slow:
        late = [program for program in programs if id(program) in slow]
        judged(late, problems, args, mode=args.mode, workers=args.workers, isolation=tiers[0].value)
    print(f"{len(kept)} programs end by themselves; {len(slow)} meet the limit of {args.time_limit:g} s", end="")
    print(f" ({time.perf_counter() - began:.1f} s for those, {tiers[0]})")

    def ours(tier: Tier, mode: str) -> Timing:
        began = time.perf_counter()
        verdicts = judged(kept, problems, args, mode=mode, workers=args.workers, isolation=tier.value)
        return time.perf_counter() - began, ran(verdicts)

    ways: dict[str, Callable[[], Timing]] = {f"kiyas {tier}": lambda t=tier: ours(t, args.mode) for tier in tiers}  # type: ignore[misc]
    ways["cold python -I -S"] = lambda: cold(kept, problems, args, ["-I", "-S"])
    ways["cold python"] = lambda: cold(kept, problems, args, [])
    best: dict[str, Timing] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = written(folder, kept, problems)
        if args.checker:
            tests = ran([verdict for verdict in first if id(verdict.program) not in slow])
            ways["the other checker"] = lambda: (other_checker(args.checker, files, args.time_limit), tests)
        for _ in range(args.repeat):
            for way, measure in ways.items():
                timing = measure()
                best[way] = min(best.get(way, timing), timing)
        if args.checker and files["out"].exists():
            report_differences([v for v in first if id(v.program) not in slow], files["out"])
    usual, reference = best["cold python"][0], best[f"kiyas {tiers[0]}"][0]
    print(f"{args.workers} workers, best of {args.repeat}{', stopping at the first failure' * args.stop_early}")
    print(f"{'':<22}{'s':>8}{'ms/program':>12}{'tests':>7}{'ms/test':>9}{'cold/this':>11}{f'this/{tiers[0]}':>13}")
    for name, (seconds, tests) in best.items():
        each = seconds / len(kept) * 1e3
        print(f"{name:<22}{seconds:>8.2f}{each:>12.2f}{tests:>7}{seconds / tests * 1e3:>9.2f}", end="")
        print(f"{usual / seconds:>11.1f}{seconds / reference:>13.2f}")


def written(folder: str, programs: list[Program], problems: list[Problem]) -> dict[str, Path]:
    """The files that another checker is given."""
    files = {name: Path(folder) / f"{name}.jsonl" for name in ("programs", "problems", "out")}
    rows = [{"problem_id": program.problem_id, "program": program.source} for program in programs]
    files["programs"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    files["problems"].write_text("".join(json.dumps(own_row(problem)) + "\n" for problem in problems))
    return files


def the_mix(programs: list[Program], problems: list[Problem], args: argparse.Namespace) -> None:
    """All programs as `kiyas judge` judges them by default, and by the other checker; once each."""
    limits, tier = Limits(args.mix_limit), args.tiers[0]
    how = {"limits": limits, "workers": args.workers, "isolation": tier, "mode": args.mode}
    took, verdicts = {}, {}
    for after in ("stop", "continue"):
        began = time.perf_counter()
        verdicts[after] = list(judge(programs, problems, after_timeout=after, **how))
        took[f"kiyas {tier}, {after}"] = time.perf_counter() - began
    if args.checker:
        with tempfile.TemporaryDirectory() as folder:
            files = written(folder, programs, problems)
            took["the other checker"] = other_checker(args.checker, files, args.mix_limit)
            if files["out"].exists():
                report_differences(verdicts["stop"], files["out"])
    late = sum(any(test.verdict is Outcome.TLE for test in each.tests) for each in verdicts["stop"])
    differing = sum(a.accepted != b.accepted for a, b in zip(*verdicts.values(), strict=True))
    print(f"the mix: {len(programs)} programs, {late} meet the limit of {args.mix_limit:g} s; ", end="")
    print(f"pass or fail differs on {differing} between stopping and running everything")
    for way, seconds in took.items():
        print(f"  {way:<22}{seconds:>8.2f} s{seconds / next(iter(took.values())):>8.2f}")


def own_row(problem: Problem) -> dict[str, object]:
    row: dict[str, object] = {
        "id": problem.id,
        "tests": [{"input": t.input, "output": t.output} for t in problem.tests],
    }
    return row | ({"entry_point": problem.entry_point} if problem.entry_point else {})


def report_differences(verdicts: list[Verdict], out: Path) -> None:
    theirs = [json.loads(line)["passed"] for line in out.read_text().splitlines()]
    for verdict, passed in zip(verdicts, theirs, strict=True):
        if verdict.accepted != passed:
            origin = verdict.program.origin or verdict.problem_id
            there = "passed" if passed else "failed"
            print(f"differs: {origin}: {verdict.verdict} here ({verdict.detail}), {there} there")


def cost_of_a_test(tier: Tier, repeat: int) -> tuple[float, float, float, float, float]:
    """One worker: seconds of a one-test program, of each further test, MB; seconds of assertions, parted and shared."""
    short = Problem("short", (Test("21\n", "42\n"),))
    long = Problem("long", short.tests * 41)
    parted = Problem("parted", (), test_code=ASSERTIONS)
    shared = Problem("shared", (), test_code="class Own: pass\n" + ASSERTIONS)

    def timed(problem: Problem, count: int) -> float:
        programs = [Program(problem.id, SMALL + f"# {number}\n") for number in range(count)]
        problems = [short, long, parted, shared]
        stream = judge([Program("short", SMALL), *programs], problems, workers=1, isolation=tier.value)
        next(iter(stream))  # the sandbox is up
        began = time.perf_counter()
        if any(not verdict.accepted for verdict in stream):
            raise SystemExit("a right program was not accepted")
        return (time.perf_counter() - began) / count

    one = min(timed(short, 100) for _ in range(repeat))
    many = min(timed(long, 8) for _ in range(repeat))
    with Sandbox(tier) as sandbox:
        sandbox.run(Job("script", SMALL))
        memory = sum(map(proportional_kb, tree(sandbox.pid))) / 1024
    assertions = [min(timed(problem, 100) for _ in range(repeat)) for problem in (parted, shared)]
    return one, (many - one) / 40, memory, *assertions


def cost_of_a_proof(count: int, workers: int, isolation: str) -> None:
    tests = tuple(Test(f"{n}\n", f"{2 * n}\n") for n in range(30))
    code = "".join(f"assert double({n}) == {2 * n}\n" for n in range(30))
    own = (SMALL, "def double(n):\n    return n * 2\n")
    kinds = {
        "by data": lambda n: Problem(f"p{n}", tests),
        "by data, with a solution": lambda n: Problem(f"p{n}", tests, solutions=own[:1]),
        "by test code": lambda n: Problem(f"p{n}", (), test_code=f"# {n}\n{code}"),
        "by test code, with a solution": lambda n: Problem(f"p{n}", (), test_code=f"# {n}\n{code}", solutions=own[1:]),
    }
    print(f"the proof of {count} problems with 30 tests each, {workers} workers:")
    for kind, make in kinds.items():
        problems = [make(n) for n in range(count)]
        began = time.perf_counter()
        if found := prove(problems, workers=workers, isolation=isolation):
            raise SystemExit(f"a sound problem was refused: {found[0]}")
        print(f"  {kind:<30}{time.perf_counter() - began:>8.2f} s")


def tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in tree(int(child)))]


def proportional_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except PermissionError:  # the zygote closes itself to others of its user: resident pages, then
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*")
    parser.add_argument("--problems")
    parser.add_argument("--time-limit", type=float, default=2.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tiers", nargs="+", default=[tier.value for tier in Tier], choices=[t.value for t in Tier])
    parser.add_argument("--mode", default="strict", choices=["strict", "livecodebench"])
    parser.add_argument("--stop-early", action="store_true")
    parser.add_argument(
        "--checker", metavar="COMMAND", help="another checker: {programs}, {problems} and {out} are files"
    )
    parser.add_argument("--livecodebench", action="store_true", help="LiveCodeBench's checker, installed for this")
    parser.add_argument("--mix-limit", type=float, default=6.0, metavar="S")
    parser.add_argument("--proof", type=int, default=1055, metavar="N", help="problems that prove themselves")
    parser.add_argument("--user", help="do it all as this user (needs root)")
    args = parser.parse_args()
    # Read before root is gone; the folder may be closed to others.
    problems = [p for p in read_problems(args.problems) if p.test_code is None] if args.problems else []
    known = {problem.id for problem in problems}
    programs = [program for program in read_programs(args.programs) if program.problem_id in known]
    if args.user:
        user = pwd.getpwnam(args.user)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        os.chdir("/")
    print(f"uid {os.geteuid()}, Python {sys.version.split()[0]}")
    with contextlib.ExitStack() as stack:
        if args.livecodebench:
            args.checker = livecodebench(stack.enter_context(tempfile.TemporaryDirectory()), args.workers)
        if programs:
            compare_ways(programs, problems, args)
            the_mix(programs, problems, args)
    cost_of_a_proof(args.proof, args.workers, args.tiers[0])
    command, _ = interpreter(None)
    floors = subprocess.run([*command, "-c", FLOOR], capture_output=True, text=True, check=True).stdout.split()
    fork, namespaces = (float(word) * 1e3 for word in floors[:2])
    print(f"floors: bare fork {fork:.2f} ms, in new namespaces {namespaces:.2f} ms, {int(floors[2]) / 1024:.1f} MB")
    print(f"{'one worker':<16}{'one-test program':>17}{'further test':>14}{'x fork':>8}{'memory':>10}", end="")
    print(f"{'20 assertions':>14}{'shared':>11}")
    for tier in args.tiers:
        try:
            one, further, memory, parted, shared = cost_of_a_test(Tier(tier), args.repeat)
        except SandboxError as error:
            print(f"{tier}: {error}", file=sys.stderr)
            continue
        print(
            f"{tier:<16}{one * 1e3:>14.2f} ms{further * 1e3:>11.2f} ms{further * 1e3 / fork:>8.1f}{memory:>7.1f} MB",
            end="",
        )
        print(f"{parted * 1e3:>11.2f} ms{shared * 1e3:>8.2f} ms")


if __name__ == "__main__":
    main()
