"""`make mutants`: the script runs, and its list of accepted mutants is about lines that are there."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "mutants.py"


def test_accepted_mutants_are_of_lines_that_are_there() -> None:
    for each in tomllib.loads(SCRIPT.with_name("mutants_accepted.toml").read_text(encoding="utf-8"))["accepted"]:
        lines = (ROOT / "src" / "kiyas" / each["file"]).read_text(encoding="utf-8").splitlines()
        assert each["line"] in [line.strip() for line in lines]
        assert each["line"] not in each["becomes"] and each["why"]


@pytest.mark.slow
def test_a_mutant_is_made_and_killed() -> None:
    pytest.importorskip("cosmic_ray")
    ran = subprocess.run([sys.executable, SCRIPT, "--n", "1", "losses"], capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "losses: 1 of 1 killed" in ran.stdout
