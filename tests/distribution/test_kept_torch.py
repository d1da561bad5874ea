"""The notebook's way to install: a torch that is there is kept, or nothing is changed.

pip sees installed packages by their metadata; that is all that these torches have.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fresh import ROOT, Environment, sh

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def cells() -> tuple[str, str]:
    """Of the notebook: what writes the constraints, and the line that installs."""
    book = json.loads((ROOT / "docs" / "colab.ipynb").read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    (writes,) = [each for each in sources if "constraints.txt" in each and not each.startswith("%pip")]
    (installs,) = [each for each in sources if each.startswith("%pip")]
    return writes, installs


def with_torch(folder: Path, version: str) -> Environment:
    environment = Environment(folder / "venv")
    (site,) = environment.folder.glob("lib/python*/site-packages")
    facts = site / f"torch-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    (facts / "INSTALLER").write_text("pip\n")
    (facts / "RECORD").write_text("")
    return environment


def planned(environment: Environment, wheel: Path) -> set[str]:
    """The names of what the notebook's two cells would install."""
    environment.python(cells()[0], environment.folder)
    report = environment.folder / "report.json"
    pip(environment, wheel, "--dry-run", "--report", report)
    return {each["metadata"]["name"].lower() for each in json.loads(report.read_text())["install"]}


def pip(environment: Environment, wheel: Path, *more: object, code: int = 0) -> str:
    command = cells()[1].removeprefix("%pip ").replace("'kiyas[train]'", f"{wheel}[train]").split()
    python = (environment.bin / "python", "-m", "pip", "--disable-pip-version-check")
    return sh(*python, *command, *more, cwd=environment.folder, code=code)


@pytest.mark.parametrize("version", ["2.11.0", "2.13.0+cu128", "2.14.1+cpu"])
def test_a_torch_that_fits_is_kept(tmp_path: Path, distributions: tuple[Path, Path], version: str) -> None:
    installed = planned(with_torch(tmp_path, version), distributions[0])
    assert {"kiyas", "transformers", "datasets"} <= installed
    assert "torch" not in installed and not [name for name in installed if name.startswith(("nvidia", "triton"))]


def test_an_older_torch_is_not_replaced(tmp_path: Path, distributions: tuple[Path, Path]) -> None:
    """The first cell says so; the second would change nothing either."""
    environment = with_torch(tmp_path, "2.10.0+cu126")
    said = sh(environment.bin / "python", "-c", cells()[0], cwd=tmp_path, code=1)
    assert "Kıyas needs torch 2.11 or later, here is 2.10.0+cu126" in said
    (environment.folder / "constraints.txt").write_text("torch==2.10.0+cu126\n")
    assert "conflict" in pip(environment, distributions[0], code=1)


def test_without_a_torch_one_is_installed(tmp_path: Path, distributions: tuple[Path, Path]) -> None:
    assert "torch" in planned(Environment(tmp_path / "venv"), distributions[0])
