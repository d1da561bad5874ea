"""Suites of judge and core against the installed wheel: on the oldest declared dependencies, and on each Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fresh import PROJECT, ROOT, TORCH, Environment, sh

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

JUDGE = ("tests/judge",)
"""Last, for its tests import from their own conftest."""
CORE = (
    "tests/analyse", "tests/interop", "tests/pooling", "tests/practice", "tests/report", "tests/runfolder",
    "tests/similarity", "tests/stats", "tests/study",
)  # fmt: skip
NEED_TRAIN = (
    "tests/analyse/test_checklist.py", "tests/analyse/test_contrasts.py", "tests/interop/test_adapters_as_in_peft.py",
    "tests/interop/test_arms_from_names.py", "tests/interop/test_given_checkpoints.py",
    "tests/interop/test_whole_models.py",
    "tests/practice/test_practice_base.py", "tests/study/test_preset_design.py", "tests/study/test_presets.py",
)  # fmt: skip
"""Of these: what trains or decodes, and so needs the extra."""
PYTHONS = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
TOOLS = ("hypothesis", "psutil", "pytest", "pytest-timeout", "pytest-xdist", "statsmodels")


def oldest(*extras: str) -> list[str]:
    """`name==lowest` for every declared dependency with a lower bound."""
    declared = [
        *PROJECT["dependencies"],
        *(each for extra in extras for each in PROJECT["optional-dependencies"][extra]),
    ]
    found = [re.match(r"([\w.-]+)>=([\w.]+)", each) for each in declared]
    assert all(found), f"a dependency without a lower bound among {declared}"
    return [f"{each[1]}=={each[2]}" for each in found if each]


def interpreter(version: str) -> str:
    """One that starts, from the path or from pyenv; skips by name where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for path in (shutil.which(f"python{version}"), *map(str, pyenv.glob(f"versions/{version}.*/bin/python{version}"))):
        if path and subprocess.run([path, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
            return path
    pytest.skip(f"there is no python{version} on this machine")


def run_suites(environment: Environment, what: tuple[str, ...]) -> None:
    """From a folder without src/, so that the wheel is what is tested."""
    left_out = [f"--ignore={path}" for path in NEED_TRAIN]
    command = (environment.bin / "python", "-m", "pytest", "-q", "-m", "not slow", "-n", "2", "-p", "no:cacheprovider")
    said = sh(*command, "--no-loadscope-reorder", *left_out, *what, cwd=ROOT, timeout=5000)
    assert re.search(r"\d+ passed", said) and " error" not in said.splitlines()[-1]
    inside = environment.python("import kiyas; print(kiyas.__file__)", environment.folder)
    assert str(environment.folder) in inside


def tools() -> list[str]:
    return [each for each in PROJECT["optional-dependencies"]["dev"] if re.split(r"[^\w-]", each)[0] in TOOLS]


def test_each_declared_dependency_has_a_lower_bound() -> None:
    assert oldest("train") and oldest("inspect") and len(tools()) == len(TOOLS)


def test_on_the_oldest_dependencies(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    constraints = tmp_path / "oldest.txt"
    constraints.write_text("\n".join(oldest()) + "\n")
    environment.install(distributions[0], *tools(), more=("-c", constraints))
    held = environment.python("from importlib.metadata import version as v; print(v('numpy'), v('pandas'))", tmp_path)
    assert held.split() == [each.partition("==")[2] + ".0" for each in oldest() if re.match("numpy|pandas", each)]
    run_suites(environment, (*CORE, *JUDGE))


def test_the_oldest_of_train_runs_the_demo(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    """With the torch that scripts/venv.sh installs: the oldest one is offered for CUDA only."""
    environment = Environment(tmp_path / "venv")
    constraints = tmp_path / "oldest.txt"
    constraints.write_text("\n".join(each for each in oldest("train") if not each.startswith("torch")) + "\n")
    environment.install(TORCH)
    environment.install(f"{distributions[0]}[train]", more=("-c", constraints))
    small = ("seeds=1", "training.budget.steps=4", "training.save_steps=4", "--limit", "3")
    assert "Conclusion" in environment.kiyas("demo", *small, cwd=tmp_path)
    environment.kiyas("init", "s.yaml", "--preset", "practice", cwd=tmp_path)
    assert "no mistakes found" in environment.kiyas("check", "s.yaml", cwd=tmp_path)


@pytest.mark.parametrize("version", PYTHONS)
def test_on_each_python(distributions: tuple[Path, Path], version: str, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv", interpreter(version))
    environment.install(distributions[0], *tools())
    run_suites(environment, (*CORE, *JUDGE))
