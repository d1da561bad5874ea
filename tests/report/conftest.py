"""The made-up runs of synthetic.py, analysed and written once; a browser that opens their pages."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kiyas import report
from kiyas.analyse import Findings, analyse
from kiyas.analyse.findings import DataFacts
from kiyas.runfolder.files import read_jsonl, write_jsonl, write_sealed
from synthetic import HOSTILE, make_run

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Findings]:
    """Two arms × two seeds × six checkpoints, with texts that try to become markup everywhere they can."""
    folder = tmp_path_factory.mktemp("runs") / "hostile"

    def spoil(row: dict) -> dict:  # type: ignore[type-arg]
        hostile = {"got": HOSTILE, "stderr": HOSTILE}
        tests = [{**t, **hostile} if t["verdict"] != "AC" else t for t in row["tests"]]
        if row["verdict"] != "AC" and row["problem_id"].endswith("9"):
            row = {**row, "verdict": "RE"}
            tests = [{**t, **hostile, "verdict": "RE", "exception": {"type": HOSTILE}} for t in tests]
        # Lines that neighbouring checkpoints share in part and in another order.
        more = "".join(f"\nx = {(row['step'] // 20 * k * k + row['seed'] * k) % 7}" for k in range(14))
        never = {"verdict": "WA"} if row["problem_id"] == "p005" else {}
        texts = {"program": HOSTILE + row["program"] + more, "detail": HOSTILE, "flags": [HOSTILE], "tests": tests}
        return {**row, **texts, **never}

    make_run(folder, rates={"deep": 0.3, "div<b>x</b>": 0.4}, seeds=(0, 1), change=spoil, imported=True)
    rows = (folder / "data" / "problems.jsonl").read_text()
    (folder / "data" / "problems.jsonl").write_text(
        rows.replace("Do thing", "</script><b>Do thing").replace('"Problem ', '"<i>Problem ')
    )
    problems = read_jsonl(folder / "data" / "problems.jsonl")
    tagged = [{**problem, "tags": [HOSTILE, f"tag {n % 5}"]} for n, problem in enumerate(problems)]
    write_jsonl(folder / "data" / "problems.jsonl", tagged)
    solution = {"id": HOSTILE, "prompt": HOSTILE, "group": HOSTILE, "split": "train", "completion": HOSTILE}
    write_jsonl(folder / "data" / "deep.jsonl", [solution])
    arms = ("deep", "div<b>x</b>")
    facts = [
        DataFacts(arm, HOSTILE, 1001, 1005, 1002, 1.0, 1.25, 1003, 1004, 7, 8, None, HOSTILE, HOSTILE) for arm in arms
    ]
    write_sealed(folder / "data" / "facts.json", [dataclasses.asdict(each) for each in facts])
    return folder, analyse(folder)


@pytest.fixture(scope="session")
def written(analysed: tuple[Path, Findings]) -> Path:
    """Its report."""
    report.write(*analysed)
    return analysed[0]


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")
    path = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, written: Path) -> Iterator[tuple[Any, list[str], list[str]]]:
    """The page, what it said on its console, and what it asked for."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((written / "report" / "index.html").as_uri())
    page.wait_for_selector("body[data-ready=yes]", timeout=30_000)
    yield page, said, asked
    context.close()
