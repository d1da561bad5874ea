"""What one test costs: Kıyas' tiers with 1 and 2 workers and a cold `python` per test, beside a bare fork.

    python benchmarks/judge.py PROGRAMS.jsonl --problems PROBLEMS.jsonl [--time-limit 2] [--repeat 3]

Milliseconds of wall time per test that ran, the best of the repetitions, which take turns. The floor is fork, exit and
wait of an interpreter as small as Python gets, in the same run. Nothing is installed for the cold interpreter
(`-I -S`: a plain checker at its cheapest; `python`: as it is mostly done), and nothing is isolated there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kiyas.judge import Limits, Problem, Program, SandboxError, judge, read_problems, read_programs
from kiyas.judge.sandbox import interpreter

FLOOR = """
import os, time
began = time.perf_counter()
for _ in range(500):
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
print((time.perf_counter() - began) / 500)
"""
Timing = tuple[float, int]


def floor() -> Timing:
    command, _ = interpreter(None)
    done = subprocess.run([*command, "-c", FLOOR], capture_output=True, text=True, check=True)
    return float(done.stdout), 1


def kiyas(programs: list[Program], problems: list[Problem], limit: float, tier: str, workers: int) -> Timing:
    """Seconds with the start of the sandboxes, tests run (a program that does not compile is run once)."""
    list(judge(programs[:1], problems, limits=Limits(limit), workers=1, isolation=tier))  # the probe is done once
    began = time.perf_counter()
    ran = 0
    for verdict in judge(programs, problems, limits=Limits(limit), workers=workers, isolation=tier):
        ran += 1 if verdict.verdict == "CE" else len(verdict.tests)
    return time.perf_counter() - began, ran


def cold(programs: list[Program], problems: list[Problem], limit: float, workers: int, options: list[str]) -> Timing:
    """A new interpreter for each test of each program that compiles."""
    known = {problem.id: problem for problem in problems}

    def run(program: Program) -> int:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "main.py"
            file.write_text(program.source, encoding="utf-8", errors="surrogatepass")
            try:
                compile(program.source, "main.py", "exec")
                tests = known[program.problem_id].tests
            except (SyntaxError, ValueError):
                tests = known[program.problem_id].tests[:1]
            for test in tests:
                try:
                    subprocess.run(
                        [sys.executable, *options, str(file)],
                        input=test.input.encode(),
                        capture_output=True,
                        timeout=limit,
                    )
                except subprocess.TimeoutExpired:
                    continue
            return len(tests)

    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        ran = sum(pool.map(run, programs))
    return time.perf_counter() - began, ran


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+")
    parser.add_argument("--problems", required=True)
    parser.add_argument("--time-limit", type=float, default=2.0)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    problems = [problem for problem in read_problems(args.problems) if problem.test_code is None]
    known = {problem.id for problem in problems}
    programs = [program for program in read_programs(args.programs) if program.problem_id in known]
    ways: dict[tuple[str, int], Callable[[], Timing]] = {("bare fork", 1): floor}
    for workers in (1, 2):
        for tier in ("strong", "standard", "weak"):
            ways[f"kiyas {tier}", workers] = lambda t=tier, w=workers: kiyas(programs, problems, args.time_limit, t, w)  # type: ignore[misc]
        for name, options in (("cold python -I -S", ["-I", "-S"]), ("cold python", [])):
            ways[name, workers] = lambda o=options, w=workers: cold(programs, problems, args.time_limit, w, o)  # type: ignore[misc]
    best: dict[tuple[str, int], Timing] = {}
    for _ in range(args.repeat):
        for way, measure in list(ways.items()):
            try:
                timing = measure()
            except SandboxError as error:
                print(f"{way[0]}: {error}", file=sys.stderr)
                del ways[way]
                continue
            best[way] = min(best.get(way, timing), timing)
    base = best["bare fork", 1][0]
    print(f"{len(programs)} programs; ms per test, best of {args.repeat}")
    print(f"{'':<20} {'workers':>7} {'tests':>7} {'ms':>8} {'x floor':>8} {'cold/this':>10}")
    for (name, workers), (seconds, ran) in best.items():
        each = seconds / ran
        usual, count = best["cold python", workers]
        ratio = usual / count / each
        print(f"{name:<20} {workers:>7} {ran:>7} {each * 1e3:>8.2f} {each / base:>8.1f} {ratio:>10.1f}")


if __name__ == "__main__":
    main()
