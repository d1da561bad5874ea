"""What is built is what is installed: the wheel and the sdist, in fresh environments, with and without extras."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from fresh import PROJECT, ROOT, TORCH, Environment, sh

from synthetic import make_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
SMALL = ("seeds=1", "training.budget.steps=4", "training.save_steps=4", "training.workers=1", "--limit", "3")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, distributions: tuple[Path, Path]) -> Environment:
    """Without extras."""
    environment = Environment(tmp_path_factory.mktemp("bare") / "venv")
    environment.install(distributions[0])
    return environment


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, distributions: tuple[Path, Path]) -> Environment:
    """With [train], from the sdist."""
    environment = Environment(tmp_path_factory.mktemp("whole") / "venv")
    environment.install(TORCH)
    environment.install(f"{distributions[1]}[train]")
    return environment


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a run, a problem and a program; nothing of the repository is near."""
    make_run(tmp_path / "runs" / "mine", seeds=(0, 1), steps=(40,), problems=6)
    make_run(tmp_path / "runs" / "yours", seeds=(0, 1), steps=(40,), problems=6, rng_seed=1)
    problem = {"id": "double", "tests": [{"input": "21\n", "output": "42\n"}]}
    (tmp_path / "problems.jsonl").write_text(json.dumps(problem) + "\n")
    (tmp_path / "double.py").write_text("print(int(input()) * 2)\n")
    return tmp_path


def test_the_wheel_holds_the_package_and_nothing_else(distributions: tuple[Path, Path]) -> None:
    source = {
        f"kiyas/{path.relative_to(ROOT / 'src' / 'kiyas')}": path.read_bytes()
        for path in (ROOT / "src" / "kiyas").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(distributions[0]) as wheel:
        held = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}
    assert held.keys() == source.keys() and held == source
    for kind in (
        "py.typed",
        "practice/base/model.safetensors",
        "report/phrases/tr.toml",
        "study/presets/practice.yaml",
    ):
        assert f"kiyas/{kind}" in held


def test_the_sdist_makes_the_same_wheel_as_the_tree(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    """`python -m build` makes its wheel from the sdist."""
    sh(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (again,) = tmp_path.glob("*.whl")
    assert again.name == distributions[0].name and again.read_bytes() == distributions[0].read_bytes()


def test_the_sdist_has_what_its_tests_read(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[1]) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    assert {
        "zensical.toml",
        "Makefile",
        "scripts/docs.py",
        "docs/tutorial.md",
        "CITATION.cff",
        "tests/conftest.py",
    } <= held
    assert not [name for name in held if name.startswith((".venv", "runs/", "build/")) or "__pycache__" in name]


def test_without_extras_everything_but_training_works(bare: Environment, work: Path) -> None:
    assert bare.kiyas("--version", cwd=work) == f"kiyas {PROJECT['version']}\n"
    assert sh(bare.bin / "python", "-m", "kiyas", "--version", cwd=work) == f"kiyas {PROJECT['version']}\n"
    assert '"AC"' in bare.kiyas("judge", "double.py", "--problems", "problems.jsonl", cwd=work)
    assert '"AC"' in sh(bare.bin / "python", "-m", "kiyas.judge", "double.py", "--problems", "problems.jsonl", cwd=work)
    assert "Conclusion" in bare.kiyas("report", "runs/mine", cwd=work)
    assert (work / "runs" / "mine" / "report" / "index.html").stat().st_size > 100_000
    assert (work / "runs" / "mine" / "report" / "figures" / "rates.svg").is_file(), "the charts' engine draws"
    bare.kiyas("report", "runs/mine", "--language", "tr", cwd=work)
    bare.kiyas("compare", "runs/mine", "runs/yours", "--out", "pooled", cwd=work)
    results = work / "runs" / "mine" / "judge" / "judgments.jsonl"
    bare.kiyas("import", results, "--out", "runs/imported", cwd=work)
    for command in (("doctor",), ("keys",), ("schema",), ("completion", "bash"), ("init",), ("runs",), ("status",)):
        bare.kiyas(*command, cwd=work)
    bare.kiyas("verify", "runs/imported", cwd=work)


def test_without_extras_training_says_what_to_install(bare: Environment, work: Path) -> None:
    bare.kiyas("init", "s.yaml", "--preset", "practice", cwd=work)
    for command in (("demo",), ("check", "s.yaml"), ("run", "s.yaml")):
        said = bare.kiyas(*command, cwd=work, code=1)
        assert "not installed: torch" in said and "kiyas[train]" in said and "Traceback" not in said


def test_types_reach_those_who_import_it(bare: Environment, tmp_path: Path) -> None:
    """By py.typed: a wrong argument is an error of mypy, run on the installed package."""
    pytest.importorskip("mypy")
    (tmp_path / "right.py").write_text("import kiyas\n\nprint(kiyas.Run('runs/mine').conclusion.upper())\n")
    (tmp_path / "wrong.py").write_text("import kiyas\n\nprint(kiyas.Run('runs/mine').conclusion + 1)\n")
    mypy = (
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        bare.bin / "python",
        "--cache-dir",
        tmp_path,
    )
    sh(*mypy, "right.py", cwd=tmp_path)
    assert "Unsupported operand" in sh(*mypy, "wrong.py", cwd=tmp_path, code=1)


def test_with_train_the_demo_runs_and_reports(whole: Environment, work: Path) -> None:
    assert "Conclusion" in whole.kiyas("demo", *SMALL, cwd=work)
    page = work / "runs" / "practice" / "report" / "index.html"
    assert page.stat().st_size > 100_000
    whole.kiyas("report", "runs/practice", "--text", cwd=work)
    whole.kiyas("verify", "runs/practice", cwd=work)


@pytest.mark.parametrize(
    ("extra", "modules"),
    [("inspect", "inspect_ai"), ("quantized", "bitsandbytes, accelerate"), ("docs", "griffe, zensical")],
)
def test_the_other_extras_install_beside_it(
    whole: Environment, distributions: tuple[Path, Path], extra: str, modules: str, work: Path
) -> None:
    whole.install(f"{distributions[0]}[{extra}]")
    whole.python(f"import {modules}, torch; assert torch.__version__.startswith('{TORCH.partition('==')[2]}')", work)
    sh(whole.bin / "python", "-m", "pip", "check", cwd=work)
    assert "Conclusion" in whole.kiyas("demo", *SMALL, f"name={extra}", cwd=work)


def test_documentation_and_distributions_leave_nothing_untracked(tmp_path: Path) -> None:
    """In a clone: what they make is ignored, and what is checked in is as they make it."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a Git checkout")
    clone = tmp_path / "clone"
    sh("git", "clone", "--quiet", ROOT, clone, cwd=tmp_path)
    environment = {"PYTHONPATH": str(clone / "src"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "scripts/docs.py"], cwd=clone, env=environment, check=True, timeout=300)
    sh(sys.executable, "-m", "build", cwd=clone)
    assert sh("git", "status", "--porcelain", cwd=clone) == ""
