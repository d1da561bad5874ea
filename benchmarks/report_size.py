"""The report's page at full size: bytes, seconds to write, seconds to open in headless Chromium.

    python benchmarks/report_size.py [--problems 1000] [--seeds 3] [--steps 10] [--keep FOLDER]

A made-up run (`tests/analysis/synthetic.py`): 2 arms × seeds × steps and the base, every program different (600 to 1,200
characters in lines of made-up Python), statements of 1,500 characters, 8 tests, a traceback for every failing program.
Neighbouring checkpoints of real studies often agree, so a real page is smaller. Without playwright or Chromium the
second part is skipped with the reason.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "analysis"))

from synthetic import Row, make_run

from kiyas import report
from kiyas.analyse import analyse

WORDS = "n m k i j left right total best count seen grid graph node edge queue stack value index limit answer rows".split()
LINES = (
    "{a} = list(map(int, input().split()))",
    "for {a} in range({n}, {b} + 1):",
    "    if {a}[{b}] > {c} and {b} != {n}:",
    "        {a} += {b} * {c} - {n}",
    "    {a} = max({a}, {b}[{c} - {n}])",
    "def {a}_{b}({c}, {a}):",
    "    return sorted({a}.items(), key=lambda {b}: (-{b}[1], {c} % {n}))",
    "while {a} < len({b}):",
    "    {a}, {b} = {b}, ({a} + {c}) % {n}",
    "    {a}.append(({b}, {c} // {n}))",
    "print({a} + {b} if {c} else {n})",
    "",
)
PROSE = "given an array of integers find the largest sum of any path that starts at city and never visits road twice".split()


def lines(rng: np.random.Generator, characters: int) -> str:
    """Made-up Python of at least so many characters."""
    found: list[str] = []
    while sum(map(len, found)) < characters:
        a, b, c = rng.choice(WORDS, 3)
        found.append(LINES[rng.integers(len(LINES))].format(a=a, b=b, c=c, n=rng.integers(1000)))
    return "\n".join(found)


def full(folder: Path, problems: int, seeds: int, steps: int) -> Path:
    rng = np.random.default_rng(0)

    def realistic(row: Row) -> Row:
        tests: list[Row] = []
        for _ in range(row["passed"] * 2):
            tests.append({"verdict": "AC", "cpu_s": 0.01})
        while len(tests) < 8:
            error = f'  File "program.py", line {rng.integers(40)}, in <module>\nIndexError: list index {rng.integers(99)}'
            got = " ".join(map(str, rng.integers(0, 10**6, 12)))
            tests.append({"verdict": "WA", "cpu_s": 0.01, "got": got, "stderr": error, "detail": "line 1 differs"})
        program = lines(rng, int(rng.integers(600, 1200)))
        return {**row, "program": program, "tests": tests, "passed": row["passed"] * 2, "total": 8}

    made = tuple(20 * (i + 1) for i in range(steps))
    make_run(folder, seeds=range(seeds), steps=made, problems=problems, change=realistic)
    benchmark = []
    for p in range(problems):
        tests = [{"input": " ".join(map(str, rng.integers(0, 10**6, 30))), "output": f"{p + t}\n"} for t in range(8)]
        statement = " ".join(rng.choice(PROSE, 280))
        benchmark.append({"id": f"p{p:03d}", "title": f"Problem {p}", "statement": statement, "tests": tests})
    path = folder / "data" / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in benchmark), encoding="utf-8")
    return folder


def browser(page: Path) -> Iterator[tuple[str, float | int]]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("browser: skipped, the playwright package is not installed")
        return
    path = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    if path is None:
        print("browser: skipped, no Chromium on this machine")
        return
    arguments = ["--no-sandbox", "--disable-gpu", "--enable-precise-memory-info"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        tab: Any = chromium.new_page(viewport={"width": 1400, "height": 900})
        started = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="commit", timeout=120_000)
        tab.wait_for_selector("td.v", state="attached", timeout=120_000)
        yield "open_to_first_row_s", time.perf_counter() - started
        tab.wait_for_selector("body[data-ready=yes]", timeout=120_000)
        yield "open_to_charts_s", time.perf_counter() - started
        timing = "performance.getEntriesByType('navigation')[0]"
        yield "dom_interactive_s", tab.evaluate(f"{timing}.domInteractive") / 1000
        yield "dom_content_loaded_s", tab.evaluate(f"{timing}.domContentLoadedEventEnd") / 1000
        yield "nodes", tab.evaluate("document.querySelectorAll('*').length")
        yield "script_memory_mb", tab.evaluate("performance.memory.usedJSHeapSize") / 1e6
        started = time.perf_counter()
        tab.locator("td.v").nth(2).click()
        tab.wait_for_selector("dialog[open] pre.code", timeout=120_000)
        yield "click_to_program_s", time.perf_counter() - started
        chromium.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--keep", type=Path, help="a folder for the run; used again when it is there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run = args.keep or Path(temporary) / "full"
        if not (run / "resolved.json").exists():
            full(run, args.problems, args.seeds, args.steps)
        started = time.perf_counter()
        findings = analyse(run)
        print(f"{'analyse_s':24} {time.perf_counter() - started:.2f}")
        started = time.perf_counter()
        page = report.write(run, findings)
        print(f"{'write_s':24} {time.perf_counter() - started:.2f}")
        print(f"{'peak_memory_mb':24} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")
        print(f"{'bytes':24} {page.stat().st_size}")
        for name, value in browser(page):
            print(f"{name:24} {value:.2f}" if isinstance(value, float) else f"{name:24} {value}")


if __name__ == "__main__":
    main()
