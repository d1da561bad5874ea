"""Compiles the guard when the tests start, and runs cases in processes that have loaded it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guard as a library. Skips where there is no compiler or the headers of torch are missing."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++: the guard that stands in for a CUDA device cannot be compiled")
    found = importlib.util.find_spec("torch")
    assert found is not None and found.origin is not None
    torch = Path(found.origin).parent
    if not (torch / "include" / "ATen").is_dir():
        pytest.skip(f"this torch has no headers in {torch / 'include'}: the guard cannot be compiled")
    library = tmp_path_factory.mktemp("guard") / "guard.so"
    places = [f"-I{torch / 'include'}", f"-L{torch / 'lib'}", f"-Wl,-rpath,{torch / 'lib'}"]
    command = [compiler, "-std=c++20", "-shared", "-fPIC", HERE / "guard.cpp", "-o", library, *places]
    made = subprocess.run([*command, "-ltorch_cpu", "-lc10"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return library


OnCuda = Callable[..., Any]


@pytest.fixture(scope="session")
def on_cuda(guard: Path, tmp_path_factory: pytest.TempPathFactory) -> OnCuda:
    """`on_cuda("module.function", **arguments)` → what the function returns in a process with the guard.

    Arguments and result go through JSON. The module lies in this folder. The same call is made only once a session.
    """
    made: dict[str, Any] = {}

    def run(case: str, **arguments: Any) -> Any:
        given = json.dumps(arguments)
        if (key := f"{case} {given}") not in made:
            result = tmp_path_factory.mktemp("cuda") / "result.json"
            command = [sys.executable, HERE / "child.py", guard, case, given, result]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, cwd=result.parent, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{case} {given}:\n{done.stderr[-6000:]}"
            made[key] = json.loads(result.read_text(encoding="utf-8"))
        return made[key]

    return run
