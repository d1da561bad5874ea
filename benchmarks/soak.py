"""Memory and time over sizes: analyse and report of many checkpoints, and the judge's own process over many programs.

    python benchmarks/soak.py [--checkpoints 125 250 500 1000] [--problems 100]
    python benchmarks/soak.py --programs 12500 25000 50000 100000 [--workers 2 | --nodes 2]

Made-up runs (`tests/synthetic.py`): two arms of five seeds, and as many checkpoints of each as make the number; every
program is another one. Each size has a process of its own, whose peak memory is printed with its CPU seconds, and both
for each judgment: where they are flat, or fall, nothing grows faster than the run does. The programs are run for real,
each on one test, in the best isolation that there is; memory is that of the process which hands them out. `--nodes`: it
hands them to so many Ray nodes of one core, on this machine, and the seconds are those of the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from kiyas import report
from kiyas.analyse import analyse
from kiyas.judge.tiers import choose
from kiyas.judge.types import Isolation
from kiyas.judging.stage import judge_completions
from kiyas.pipeline.cluster import joined
from kiyas.runfolder.files import each_row, write_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Judge
from kiyas.types import AdapterId, Completion
from kiyas.work.progress import Bar
from kiyas.work.workers import HERE
from nodes import nodes
from synthetic import Row, make_run

SEEDS = 5
PROGRAM = "```python\nn = int(input())\nprint(n * 7 if n + {n} >= {n} else -1)\n```"


def peak_mb() -> float:
    """Of this process alone: what `resource` says begins with the parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def cpu_s() -> float:
    """Of this process and those that it has waited for: other work on the machine does not count."""
    return sum(os.times()[:4])


def analysed(folder: Path, checkpoints: int, problems: int) -> dict[str, float]:
    """Seconds and peak memory of analyse and report."""
    loaded, started = peak_mb(), cpu_s()
    findings = analyse(folder)
    found = {"analyse s": cpu_s() - started}
    started = cpu_s()
    report.write(folder, findings)
    return {**found, "report s": cpu_s() - started, "peak MB": peak_mb(), "libraries MB": loaded}


def make_judged(folder: Path, checkpoints: int, problems: int) -> None:
    steps = tuple(20 * (i + 1) for i in range(checkpoints // (2 * SEEDS)))
    make_run(folder, seeds=range(SEEDS), steps=steps, problems=problems)
    write_jsonl(RunDir(folder).completions, (answer(row) for row in each_row(RunDir(folder).judgments)))


def answer(judged: Row) -> Row:
    """The answer that a program was found in."""
    who = {key: judged[key] for key in ("arm", "variant", "seed", "step", "problem_id", "sample")}
    return {**who, "text": f"I think:\n```python\n{judged['program']}\n```", "tokens": 30, "stop": "eos"}


def judged(folder: Path, programs: int, workers: int, count: int) -> dict[str, float]:
    """Seconds and the driver's peak memory of judging so many different programs, over so many Ray nodes if any."""
    run, settings = RunDir(folder), Judge(isolation=Isolation(choose("best")), workers=workers)
    with contextlib.ExitStack() as while_it_runs:
        each, clock = HERE.each, cpu_s
        if count:
            found = while_it_runs.enter_context(nodes(*(f"node-{number}" for number in range(count))))
            each, clock = while_it_runs.enter_context(joined(found.address)).each, time.perf_counter
        loaded, started = peak_mb(), clock()
        verdicts = judge_completions(run, settings, Bar("judge", programs, "programs"), each)
        took = clock() - started
    assert verdicts == {"AC": programs}, verdicts
    return {"judge s": took, "peak MB": peak_mb(), "libraries MB": loaded}


def make_programs(folder: Path, programs: int, problems: int) -> None:
    run = RunDir(folder)
    tests = [{"id": f"p{p}", "tests": [{"input": f"{p}\n", "output": f"{7 * p}\n"}]} for p in range(problems)]
    write_jsonl(run.problems, tests)
    each = (
        Completion(AdapterId("x", "", 0, 1 + n // problems), f"p{n % problems}", 0, PROGRAM.format(n=n), 10, 30, "eos")
        for n in range(programs)
    )
    write_jsonl(run.completions, (completion.to_row() for completion in each))


def measured(what: str, *sizes: int, how: tuple[str, ...] = ()) -> dict[str, float]:
    """One size, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (make_judged if what == "analyse" else make_programs)(Path(folder) / "run", sizes[0], sizes[1])
        command = [sys.executable, __file__, "--one", what, str(Path(folder) / "run"), *map(str, sizes), *how]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(name: str, judgments: list[int], rows: list[dict[str, Any]]) -> None:
    sizes = [row.pop("size") for row in rows]
    print(f"| {name} | judgments | " + " | ".join(rows[0]) + " | µs each | bytes each |")
    print("|" + "---:|" * (len(rows[0]) + 4))
    for size, count, row in zip(sizes, judgments, rows, strict=True):
        each_us = 1e6 * sum(value for key, value in row.items() if key.endswith(" s")) / count
        each_bytes = 2**20 * (row["peak MB"] - row["libraries MB"]) / count
        cells = [f"{value:.1f}" for value in row.values()]
        print(f"| {size} | {count:,} | {' | '.join(cells)} | {each_us:.0f} | {each_bytes:.0f} |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, nargs="*", default=[125, 250, 500, 1000])
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--programs", type=int, nargs="*", default=[])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--one", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        what, folder, *sizes = args.one
        if what == "analyse":
            print(json.dumps(analysed(Path(folder), *map(int, sizes))))
        else:
            print(json.dumps(judged(Path(folder), int(sizes[0]), args.workers, args.nodes)))
        return
    how = (f"--workers={args.workers}", f"--nodes={args.nodes}")
    for name, what, sizes in (("checkpoints", "analyse", args.checkpoints), ("programs", "judge", args.programs)):
        rows = [{"size": size, **measured(what, size, args.problems, how=how)} for size in sizes]
        if rows:
            table(name, [size * args.problems if what == "analyse" else size for size in sizes], rows)
    print("soak: all sizes measured")


if __name__ == "__main__":
    main()
