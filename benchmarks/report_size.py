"""The report's page at full size: bytes, seconds to write, seconds to open in headless Chromium.

    python benchmarks/report_size.py [--problems 1000] [--seeds 3] [--steps 10] [--keep FOLDER]

A made-up run (`tests/synthetic.py`): 2 arms × seeds × steps and the base, every program different (600 to
1,200 characters of made-up Python), statements of 1,500 characters, 8 tests, a traceback for every failing test.
Neighbouring checkpoints of real studies often agree, so a real page is smaller. Without playwright or Chromium the
second part is skipped with the reason. Seconds in the browser count from the start of navigation.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from kiyas import report
from kiyas.analyse import analyse
from synthetic import Row, make_run

WORDS = [
    "n",
    "m",
    "k",
    "i",
    "j",
    "left",
    "right",
    "total",
    "best",
    "count",
    "seen",
    "graph",
    "node",
    "queue",
    "value",
    "limit",
]
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
PROSE = ["given", "an", "array", "of", "integers", "find", "the", "largest", "sum", "path", "city", "road", *WORDS]
MARKS = """
window.marks = {};
new MutationObserver((_, watch) => {
  if (!document.querySelector("td.v")) return;
  marks.first_grid_row_s = performance.now();
  watch.disconnect();
}).observe(document, { childList: true, subtree: true });
addEventListener("DOMContentLoaded", () => { marks.whole_page_s = performance.now(); });
"""


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
        passed = 2 * row["passed"]
        tests: list[Row] = [{"verdict": "AC", "cpu_s": 0.01}] * passed
        for line, index in rng.integers(0, 99, (8 - passed, 2)):
            error = f'  File "program.py", line {line}, in <module>\nIndexError: list index {index} out of range'
            got = " ".join(map(str, rng.integers(0, 10**6, 12)))
            tests.append({"verdict": "WA", "cpu_s": 0.01, "got": got, "stderr": error, "detail": "line 1 differs"})
        program = lines(rng, int(rng.integers(600, 1200)))
        return {**row, "program": program, "tests": tests, "passed": passed, "total": 8}

    made = tuple(20 * (i + 1) for i in range(steps))
    make_run(folder, seeds=range(seeds), steps=made, problems=problems, change=realistic)
    benchmark = []
    for p in range(problems):
        tests = [{"input": " ".join(map(str, rng.integers(0, 10**6, 30))), "output": f"{p + t}\n"} for t in range(8)]
        statement = " ".join(rng.choice(PROSE, 300))
        benchmark.append({"id": f"p{p:03d}", "title": f"Problem {p}", "statement": statement, "tests": tests})
    path = folder / "data" / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in benchmark), encoding="utf-8")
    return folder


def browser(page: Path) -> dict[str, float]:
    """What Chromium measured; empty where there is none."""
    path = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("browser: skipped, the playwright package is not installed")
        return {}
    if path is None:
        print("browser: skipped, no Chromium on this machine")
        return {}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        tab: Any = chromium.new_page(viewport={"width": 1400, "height": 900})
        tab.add_init_script(MARKS)
        tab.goto(page.as_uri(), timeout=120_000)
        tab.wait_for_selector("body[data-ready=yes]", timeout=120_000)
        found: dict[str, float] = {name: ms / 1000 for name, ms in tab.evaluate("marks").items()}
        session = tab.context.new_cdp_session(tab)
        session.send("Performance.enable")
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        found |= {"nodes": metrics["Nodes"], "script_memory_mb": metrics["JSHeapUsedSize"] / 1e6}
        started = time.perf_counter()
        tab.locator("td.v").nth(2).click()
        tab.wait_for_selector("dialog[open] pre.code", timeout=120_000)
        found["click_to_program_s"] = time.perf_counter() - started
        started = time.perf_counter()
        found["printed_mb"] = len(tab.pdf()) / 1e6
        found["print_s"] = time.perf_counter() - started
        chromium.close()
    return found


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
        findings = analyse(run)
        started = time.perf_counter()
        page = report.write(run, findings)
        found = {"write_s": time.perf_counter() - started, "page_mb": page.stat().st_size / 1e6}
        found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for name, value in {**found, **browser(page)}.items():
            print(f"{name:18} {value:10.2f}")


if __name__ == "__main__":
    main()
