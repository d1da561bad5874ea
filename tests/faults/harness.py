"""Runs `kiyas demo` with a fault, and says in which stage it fell and what became of the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from faults.table import demo, findings
from kiyas.runfolder.files import read_jsonl, sha256
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.peft import WEIGHTS
from kiyas.types import KiyasError

SITE = Path(__file__).parent / "site"
Table = Counter[tuple[str, str, str]]
"""(fault, stage, outcome) → how often"""


def undisturbed(folder: Path) -> RunDir:
    run = folder / "practice"
    subprocess.run([sys.executable, "-m", "kiyas", *demo(run)], check=True, capture_output=True)
    return RunDir(run)


def disturbed(runs: Path, kind: str, at: int | str, store: Path | None = None) -> tuple[int, str]:
    """One start of the command with a fault at the given point (or, "at a moment": after so many milliseconds).

    `store`: where the run is copied five times a second. Returns exit code (negative: the signal) and stderr. Nothing
    that it started outlives it.
    """
    spec = runs / f"fault-{time.monotonic_ns()}.json"
    spec.write_text(
        json.dumps(
            {
                "kind": kind,
                "at": at,
                "copied_every_s": 0.2,
                **{name: str(spec.with_suffix(f".{name}")) for name in ("leader", "counter", "journal")},
            }
        )
    )
    own = {"PYTHONPATH": str(SITE), "KIYAS_FAULT": str(spec), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "kiyas", *demo(runs / "practice"), *([] if store is None else [f"store={store}"])],
        env={**os.environ, **own},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    spec.with_suffix(".leader").write_text(str(process.pid))
    if kind == "SIGKILL at a moment":
        time.sleep(float(at) / 1000)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    _, err = process.communicate(timeout=240)
    end = time.monotonic() + 10
    while left := _children_of(process.pid):
        assert time.monotonic() < end, f"these outlived a {kind}: {left}"
        time.sleep(0.05)
    return process.returncode, err


def _children_of(group: int) -> list[str]:
    found = []
    for each in psutil.process_iter():
        try:
            if os.getpgid(each.pid) == group and each.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(each.cmdline())[:100])
        except (psutil.Error, ProcessLookupError):
            continue
    return found


def stage_of(folder: RunDir) -> str:
    """The stage that a run is in."""
    try:
        return next((stage.value for stage in Stage if folder.manifest(stage) is None), "finished")
    except KiyasError as error:
        return f"lost ({error.args[0]})"


def same(folder: RunDir, expected: RunDir) -> str:
    """What differs from an undisturbed run; "" for nothing."""
    wrong = [
        name
        for name, differs in {
            "log": read_jsonl(folder.train_log) != read_jsonl(expected.train_log),
            "weights": _weights(folder) != _weights(expected),
            "completions": read_jsonl(folder.completions) != read_jsonl(expected.completions),
            "verdicts": _judged(folder) != _judged(expected),
            "findings": _timeless(findings(folder.root)) != _timeless(findings(expected.root)),
        }.items()
        if differs
    ]
    return ", ".join(wrong)


def _timeless(found: dict[str, Any]) -> dict[str, Any]:
    for each in found["contrasts"]:
        for key in ("problems_hours", "seeds_hours", "both_hours"):
            (each["needed"] or {}).pop(key, None)
    return found


def _weights(folder: RunDir) -> dict[str, str]:
    return {str(path.relative_to(folder.root)): sha256(path) for path in folder.checkpoints.rglob(WEIGHTS)}


def _judged(folder: RunDir) -> list[str]:
    keep = ("arm", "seed", "step", "problem_id", "sample", "program", "verdict", "passed", "total")
    return sorted(json.dumps({key: row[key] for key in keep}) for row in read_jsonl(folder.judgments))


def litter(folder: RunDir) -> list[str]:
    """What a run leaves that is not of it: temporary files, kept copies."""
    return [str(path) for path in folder.root.rglob("*") if path.name.endswith((".tmp", ".changed"))]
