"""The report's page at full size: bytes, seconds to write, seconds to open in headless Chromium.

    python benchmarks/report_size.py [--problems 300] [--seeds 3] [--steps 50] [--keep FOLDER]
    python benchmarks/report_size.py --against REVISION [--rounds 5]

A made-up run (`tests/synthetic.py`): 2 arms × seeds × steps and the base, every program different (600 to
1,200 characters of made-up Python, with prose around it), statements of 1,500 characters, 8 tests, a traceback for
every failing test. Neighbouring checkpoints of real studies often agree, so a real page is smaller. Without playwright
or Chromium the second part is skipped with the reason. Seconds in the browser count from the start of navigation; a
grid that is folded is unfolded as soon as it is there.

With `--against`, the page that the given git revision makes of the same run is measured too. The two are opened in
turn, each first as often as the other; printed are medians.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from kiyas import report
from kiyas.analyse import analyse
from kiyas.runfolder.files import each_row, write_jsonl
from kiyas.runfolder.paths import RunDir
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
  const fold = document.getElementById("every");
  if (fold && !fold.open) fold.open = true;
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


def answer(judged: Row, rng: np.random.Generator) -> Row:
    """The answer that a program was found in."""
    text = f"{' '.join(rng.choice(PROSE, 25))}:\n```python\n{judged['program']}\n```"
    who = {key: judged[key] for key in ("arm", "variant", "seed", "step", "problem_id", "sample")}
    return {**who, "text": text, "tokens": 300, "stop": "eos"}


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
    write_jsonl(RunDir(folder).completions, (answer(row, rng) for row in each_row(RunDir(folder).judgments)))
    return folder


SWITCHED = """async () => {
  const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const took = async (act) => {
    const before = performance.now();
    act();
    await painted();
    return (performance.now() - before) / 1000;
  };
  const all = document.getElementById("all-checkpoints"), search = document.getElementById("search");
  if (!all) return {};
  return {
    all_checkpoints_s: await took(() => all.click()),
    search_s: await took(() => { search.value = "problem 29"; search.dispatchEvent(new Event("input")); }),
  };
}"""
WRITE = """
import sys
from pathlib import Path
from kiyas import report
from kiyas.analyse import analyse
run = Path(sys.argv[1])
report.write(run, analyse(run))
"""
Measured = dict[str, float]


def chromium() -> str | None:
    """Chromium's path; None, with the reason, where it cannot be driven."""
    path = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    if importlib.util.find_spec("playwright") is None:
        print("browser: skipped, the playwright package is not installed")
        return None
    if path is None:
        print("browser: skipped, no Chromium on this machine")
    return path


def opened(page: Path, path: str, print_it: bool) -> Measured:
    """What a fresh Chromium measured."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        tab: Any = chromium.new_page(viewport={"width": 1400, "height": 900})
        tab.add_init_script(MARKS)
        tab.goto(page.as_uri(), timeout=120_000)
        tab.wait_for_selector("body[data-ready=yes]", timeout=120_000)
        found: Measured = {"all_drawn_s": tab.evaluate("performance.now()") / 1000}
        tab.wait_for_selector("td.v", timeout=120_000)
        found |= {name: ms / 1000 for name, ms in tab.evaluate("marks").items()}
        session = tab.context.new_cdp_session(tab)
        session.send("Performance.enable")
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        found |= {"nodes": metrics["Nodes"], "script_memory_mb": metrics["JSHeapUsedSize"] / 1e6}
        started = time.perf_counter()
        tab.locator("td.v").nth(2).click()
        tab.wait_for_selector("dialog[open] pre.code", timeout=120_000)
        found["click_to_program_s"] = time.perf_counter() - started
        tab.keyboard.press("Escape")
        found |= tab.evaluate(SWITCHED)
        if print_it:
            started = time.perf_counter()
            found["printed_mb"] = len(tab.pdf()) / 1e6
            found["print_s"] = time.perf_counter() - started
        chromium.close()
    return found


def medians(rounds: list[Measured]) -> Measured:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]} if rounds else {}


def written_by(revision: str, run: Path, folder: Path) -> tuple[Path, Measured]:
    """The page that another revision of this repository makes of the run."""
    tree = folder / "revision"
    git = ["git", "-C", str(Path(__file__).parent)]
    subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(tree), revision], check=True)
    try:
        started = time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
        subprocess.run([sys.executable, "-c", WRITE, str(run)], check=True, env=environment, cwd=folder)
        took = time.perf_counter() - started
        page = (run / "report" / "index.html").rename(folder / "before.html")
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(tree)], check=True)
    return page, {"analyse_and_write_s": took, "page_mb": page.stat().st_size / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--keep", type=Path, help="a folder for the run; used again when it is there")
    parser.add_argument("--against", metavar="REVISION", help="also measure the page that this git revision makes")
    parser.add_argument("--rounds", type=int, default=5, help="how often each page is opened, with --against")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run = args.keep or Path(temporary) / "full"
        if not (run / "resolved.json").exists():
            full(run, args.problems, args.seeds, args.steps)
        pages: dict[str, Path] = {}
        found: dict[str, Measured] = {}
        if args.against:
            pages[args.against], found[args.against] = written_by(args.against, run, Path(temporary))
        started = time.perf_counter()
        findings = analyse(run)
        analysed = time.perf_counter()
        pages["now"] = report.write(run, findings)
        ended = time.perf_counter()
        found["now"] = {"analyse_and_write_s": ended - started, "write_s": ended - analysed}
        found["now"]["page_mb"] = pages["now"].stat().st_size / 1e6
        found["now"]["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if path := chromium():
            rounds: dict[str, list[Measured]] = {name: [] for name in pages}
            for n in range(args.rounds if args.against else 1):
                for name in list(pages)[:: 1 if n % 2 else -1]:
                    rounds[name].append(opened(pages[name], path, not args.against))
            found = {name: found[name] | medians(rounds[name]) for name in found}
    if args.against:
        print(f"{'':20}" + "".join(f" {name[:10]:>10}" for name in found))
    for name in dict.fromkeys(name for each in found.values() for name in each):
        print(
            f"{name:20}" + "".join(f" {each[name]:10.2f}" if name in each else f" {'':>10}" for each in found.values())
        )


if __name__ == "__main__":
    main()
