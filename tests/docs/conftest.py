"""A working folder with the files that the documentation's commands name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kiyas.runfolder import manifests
from kiyas.runfolder.paths import RunDir, Stage
from synthetic import make_run

Row = Mapping[str, Any]
PROBLEMS = [
    {
        "id": name,
        "statement": f"Read N and print its {name}.",
        "tests": [{"input": f"{n}\n", "output": f"{n * factor}\n"} for n in (2, 21)],
    }
    for name, factor in (("double", 2), ("triple", 3))
]


def rows(file: Path, *given: Row) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")


def result(name: str, passed: int) -> Row:
    """As the course evaluator writes it."""
    counts = {"total": 2, "passed": passed, "failed": 2 - passed, "timeout": 0, "error": 0}
    program = "print(int(input()) * 2)"
    return {"question_id": name, "extracted_code": program, "passed": passed == 2, "test_results": counts}


@pytest.fixture(scope="session")
def given_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation")
    for seed, name in enumerate(("practice", "mine", "yours", "theirs")):
        run = make_run(folder / "runs" / name, seeds=(0, 1), steps=(40,), problems=9, rng_seed=seed)
        manifests.finish(RunDir(run), Stage.JUDGE, {}, {}, 1.0)
    rows(folder / "problems.jsonl", *PROBLEMS)
    rows(folder / "programs.jsonl", {"problem_id": "double", "program": "print(int(input()) * 2)"})
    (folder / "double.py").write_text("print(int(input()) * 2)\n", encoding="utf-8")
    (folder / "my-answers").mkdir()
    shutil.copy(folder / "double.py", folder / "my-answers")
    for arm in ("deep", "diverse"):
        rows(folder / "results" / f"{arm}_checkpoint-step-100.jsonl", result("double", 2), result("triple", 0))
        losses: Sequence[Row] = [{"step": step, "loss": 1 / step, "eval_loss": 1.1 / step} for step in (50, 100)]
        rows(folder / "logs" / f"{arm}.jsonl", *losses)
    counts = "".join(
        f"{study},{arm},{solved},41\n"
        for study, both in (("first", (11, 13)), ("second", (12, 12)))
        for arm, solved in zip(("deep", "diverse"), both, strict=True)
    )
    (folder / "published.csv").write_text(f"study,arm,solved,total\n{counts}", encoding="utf-8")
    return folder


@pytest.fixture
def workspace(given_files: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(given_files, tmp_path / "work"))
