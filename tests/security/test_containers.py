"""Where a container forbids namespaces and mounts, as notebook services do: `standard` holds, and is what is chosen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kiyas.judge.resources import others_can_read
from kiyas.runfolder.paths import RunDir
from kiyas.runfolder.record import read_record

CONTAINED = Path(__file__).with_name("contained.py")
READABLE = others_can_read([sys.prefix, sys.base_prefix])
READ_ALL = "2"
"""The right that programs need where only root may read this interpreter."""
PROGRAM = """
import json
from kiyas.judge import judge, probe, problem_from_row
from kiyas.judge.tiers import choose
from kiyas.judge.types import Program
problem = problem_from_row({"id": "p", "tests": [{"input": "/etc/passwd", "output": "refused"}]}, "kiyas")
refused = "try:\\n    open(input())\\n    print('open')\\nexcept OSError:\\n    print('refused')"
programs = [Program("p", each) for each in (refused, "print(input())")]
holds = {each.tier: [each.holds, each.reason] for each in probe()}
verdicts = [each.verdict for each in judge(programs, [problem], isolation="best", workers=1)]
print(json.dumps({"holds": holds, "best": choose("best"), "verdicts": verdicts}))
"""


def contained(capabilities: str, *command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, CONTAINED, capabilities, sys.executable, *command]
    return subprocess.run(list(map(str, line)), cwd=cwd, capture_output=True, text=True, timeout=300)


def test_standard_holds_without_namespaces_and_mounts(tmp_path: Path) -> None:
    ran = contained(READ_ALL, "-c", PROGRAM, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert not found["holds"]["strong"][0] and "Operation not permitted" in found["holds"]["strong"][1]
    if not found["holds"]["standard"][0] and "Landlock" in found["holds"]["standard"][1]:
        pytest.skip("this kernel has no Landlock")
    assert found["holds"]["standard"] == [True, ""]
    assert found["best"] == "standard" and found["verdicts"] == ["AC", "WA"]


@pytest.mark.skipif(os.geteuid() != 0 or READABLE, reason="this interpreter is for every user")
def test_an_interpreter_that_only_root_may_read_in_a_container(tmp_path: Path) -> None:
    """Root there has no right to hand on the reading: that is said, with what to do."""
    ran = contained("0", "-m", "kiyas", "doctor", cwd=tmp_path)
    (said,) = [line for line in ran.stdout.splitlines() if line.strip().startswith("standard")]
    assert "only root may read the interpreter" in said and "/opt" in said


@pytest.mark.slow
def test_a_whole_run_in_a_container(tmp_path: Path) -> None:
    from faults.table import demo, findings

    run = RunDir(tmp_path / "practice")
    ran = contained(READ_ALL, "-m", "kiyas", *demo(run.root), cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "programs run in standard isolation" in ran.stderr
    assert read_record(run).judge is not None and findings(run.root)["contrasts"]
