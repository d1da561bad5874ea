"""A made-up run folder in the formats of docs/formats.md: arms × seeds × checkpoints × problems."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kiyas.runfolder.files import read_jsonl, write_json, write_jsonl
from kiyas.runfolder.record import declared
from kiyas.study.settings import Study

Row = dict[str, Any]
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>\u2028{{7*7}}<!--"
STEPS = (20, 40, 60, 80, 100, 120)


def make_run(
    folder: Path,
    *,
    rates: Mapping[str, float] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    steps: Sequence[int] = STEPS,
    problems: int = 41,
    samples: int = 1,
    base: bool = True,
    compare: Row | None = None,
    also: Sequence[str] = (),
    imported: bool = False,
    change: Callable[[Row], Row | None] | None = None,
    rng_seed: int = 0,
    program: str = "print(input())  # {arm} {seed} {step} {problem}",
) -> Path:
    """`rates` are the arms' true pass@1; `change` edits a judgment's row, or drops it by returning None.

    `imported`: as if somebody's results had been imported, where arms may have any name and nothing was declared.
    """
    rates = rates or {"deep": 0.3, "diverse": 0.35}
    rng = np.random.default_rng(rng_seed)
    compare = {
        "primary": list(rates)[:2] if len(rates) > 1 else None,
        "select": "last",
        "matters": 0.05,
        **(compare or {}),
    }
    made: Row = {"kind": "import", "study": None}
    if not imported:
        study = Study.model_validate(
            {
                "name": folder.name,
                "model_name_or_path": "practice",
                "arms": {arm: {"dataset_name": arm} for arm in rates},
                "seeds": list(seeds),
                "compare": compare,
                "benchmarks": {"also": list(also)},
                "generation": {"num_samples": samples, "temperature": 0.0 if samples == 1 else 0.8},
            }
        )
        made = {"kind": "run", "study": study.model_dump(mode="json"), "declared_sha256": declared(study)}
        made |= {"base": {"name_or_path": "practice", "parameters": 1000}}
    write_json(
        folder / "resolved.json",
        {
            **made,
            "name": folder.name,
            "created": "2026-01-02T03:04:05+00:00",
            "kiyas_version": "0.1.0",
            "judge": {"tier": "strong", "mode": "strict"},
            "overrides": [],
            "notes": [],
        },
    )
    rows: list[Row] = []
    benchmark = []
    for p in range(problems):
        tests = [{"input": f"{p} {t}\n", "output": f"{p * 7 + t}\n"} for t in range(4)]
        benchmark.append({"id": f"p{p:03d}", "title": f"Problem {p}", "statement": f"Do thing {p}.", "tests": tests})
    ease = rng.normal(0, 1.2, problems)
    where = [("base", 0, 0, float(np.mean(list(rates.values()))))] if base else []
    where += [(arm, seed, step, rate) for arm, rate in rates.items() for seed in seeds for step in steps]
    for arm, seed, step, rate in where:
        chance = 1 / (1 + np.exp(-(np.log(rate / (1 - rate)) + ease)))
        for p in range(problems):
            for sample in range(samples):
                right = bool(rng.random() < chance[p])
                passed = 4 if right else int(rng.integers(0, 4))
                failed: Row = {"verdict": "WA", "cpu_s": 0.01, "got": "42", "stderr": "", "detail": "line 1 differs"}
                row: Row = {
                    "arm": arm,
                    "variant": "",
                    "seed": seed,
                    "step": step,
                    "problem_id": f"p{p:03d}",
                    "sample": sample,
                    "program": program.format(arm=arm, seed=seed, step=step, problem=p),
                    "extraction": {"method": "fence", "reason": ""},
                    "verdict": "AC" if right else "WA",
                    "passed": passed,
                    "total": 4,
                    "cpu_s": 0.04,
                    "tests": [{"verdict": "AC", "cpu_s": 0.01}] * passed + [failed] * (4 - passed),
                    "detail": "",
                    "flags": [],
                }
                changed = change(row) if change else row
                if changed is not None:
                    rows.append(changed)
    write_jsonl(folder / "data" / "problems.jsonl", benchmark)
    write_jsonl(folder / "judge" / "judgments.jsonl", rows)
    write_jsonl(folder / "train" / "log.jsonl", _log(rates, seeds, rng))
    return folder


def _log(rates: Mapping[str, float], seeds: Sequence[int], rng: np.random.Generator) -> list[Row]:
    rows: list[Row] = []
    for arm in rates:
        for seed in seeds:
            for step in range(10, 121, 10):
                noise = float(rng.normal(0, 0.003))
                who = {"arm": arm, "variant": "", "seed": seed, "step": step}
                rows.append({"kind": "train", **who, "epoch": step / 40, "loss": 1.2 * 0.985**step + noise})
                turn = 0.9 - 0.004 * step + 0.00003 * step * step
                rows.append({"kind": "validation", **who, "on": arm, "loss": turn + noise})
    return sorted(rows, key=lambda row: row["step"])


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def solved_by_one(run: Path, arm: str, problems: Sequence[str]) -> None:
    """This arm solves these problems, no other arm does; the base's verdicts stay."""
    path = run / "judge" / "judgments.jsonl"
    rows = read_jsonl(path)
    for row in rows:
        if row["problem_id"] in problems and row["arm"] != "base":
            row["verdict"] = "AC" if row["arm"] == arm else "WA"
    write_jsonl(path, rows)
