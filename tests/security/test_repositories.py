"""A command in a stranger's folder runs nothing that lies there or that its repository names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kiyas import cli
from kiyas.pipeline import git
from kiyas.report import drawing
from kiyas.work import workers


def run(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=n", "-c", "user.email=e@e", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    return subprocess.run(["git", *own, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    run(folder, "init", "-q")
    (folder / "a.dat").write_text("a\n")
    (folder / ".gitattributes").write_text("*.dat filter=x diff=x\n")
    run(folder, "add", ".")
    run(folder, "commit", "-qm", "one")
    monkeypatch.chdir(folder)
    return folder


def test_the_revision_is_known(repository: Path) -> None:
    head = run(repository, "rev-parse", "HEAD")
    assert git.revision() == head
    (repository / "a.dat").write_text("b\n")
    assert git.revision() == f"{head}+"


def test_a_repositorys_programs_are_not_run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    script.chmod(0o755)
    for key in (
        "core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "filter.x.clean", "filter.x.smudge",
        "filter.x.process", "diff.x.command", "diff.x.textconv", "diff.external", "alias.status", "alias.rev-parse",
    ):  # fmt: skip
        run(repository, "config", key, f"!{script}" if key.startswith("alias") else str(script))
    run(repository, "config", "filter.x.required", "true")
    for hook in ("post-index-change", "fsmonitor-watchman", "pre-commit", "post-checkout"):
        path = repository / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(script.read_text())
        path.chmod(0o755)
    os.utime(repository / "a.dat", (1, 1))  # its contents must be looked at
    found = git.revision()
    assert found is not None and found.startswith(run(repository, "rev-parse", "HEAD"))
    assert not mark.exists()
    subprocess.run(["git", "status"], cwd=repository, capture_output=True, check=False)
    assert mark.exists(), "git alone would have run it"


def test_a_git_of_the_folder_is_not_run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "git").write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n")
    (repository / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f".::{os.environ['PATH']}")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git.revision() is not None and not (tmp_path / "mark").exists()


def test_modules_of_the_working_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the process that workers are forked from, which Python starts with -c, nor by the charts' engine."""
    mark = tmp_path / "mark"
    for name in ("multiprocessing", "selectors", "vl_convert", "base64", "json"):
        (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    imports = [sys.executable, "-c", "import multiprocessing.forkserver, selectors, json"]
    with workers._one_thread():
        subprocess.run(imports, check=True)
    with drawing.engine() as engine:
        assert "svg" in engine.ask(spec={"mark": "point", "data": {"values": [{}]}})
    assert not mark.exists()
    subprocess.run(imports, check=False, capture_output=True)
    assert mark.exists(), "Python alone would have"


def test_every_command_starts_its_children_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setattr(cli, "_main", lambda arguments: seen.append(os.getenv("PYTHONSAFEPATH")) or 0)
    assert cli.main([]) == 0 and seen == ["1"] and os.getenv("PYTHONSAFEPATH") is None
