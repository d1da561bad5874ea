"""An interpreter that came with a stranger's files is started after `--trust` only, and asked for again if changed."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import kiyas
from kiyas import cli
from kiyas.judge import JudgeError, trust
from kiyas.types import KiyasError


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A study's folder with an interpreter in it that leaves a mark when it is started."""
    path = tmp_path / "study" / "env" / "bin" / "python"
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\ntouch {tmp_path}/started\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return path


def study(folder: Path, python: Path | str) -> Path:
    path = folder / "study.yaml"
    path.write_text(
        "name: s\nmodel_name_or_path: practice\narms:\n  deep: {dataset_name: practice/deep}\n"
        f"judge: {{python: {json.dumps(str(python))}, isolation: best}}\n"
    )
    return path


def files(folder: Path) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    problems, programs = folder / "problems.jsonl", folder / "deep_checkpoint-100.jsonl"
    problems.write_text(json.dumps({"id": "p", "tests": [{"input": "", "output": "1\n"}]}) + "\n")
    row = {"problem_id": "p", "question_id": "p", "passed": True, "program": "print(1)", "extracted_code": "print(1)"}
    programs.write_text(json.dumps(row) + "\n")
    return problems, programs


def commands(tmp_path: Path, python: Path) -> dict[str, list[str]]:
    problems, programs = files(tmp_path / "study")
    given = ["--problems", str(problems), "--python", str(python), "--isolation", "best"]
    return {
        "check": ["check", str(study(tmp_path / "study", python))],
        "run": ["run", str(tmp_path / "study" / "study.yaml"), "--runs", str(tmp_path / "runs")],
        "judge": ["judge", str(programs), *given],
        "import": ["import", str(programs), *given, "--rejudge", "--out", str(tmp_path / "run")],
    }


@pytest.mark.parametrize("name", ["check", "run", "judge", "import"])
def test_every_command_refuses_it(name: str, evil: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = commands(tmp_path, evil)[name]
    assert cli.main(words) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and str(evil) in said[0] and "--trust" in said[1]
    assert not (tmp_path / "started").exists() and not (tmp_path / "runs").exists()


def test_python_refuses_it(evil: Path, tmp_path: Path) -> None:
    with pytest.raises(KiyasError, match="--trust"):
        kiyas.run(study(tmp_path / "study", evil), runs=tmp_path / "runs")
    assert not (tmp_path / "started").exists()


def test_trust_is_remembered_until_the_file_changes(
    evil: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "study" / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "study" / "venv"], check=True)
    words = commands(tmp_path, python)["judge"]
    assert cli.main(words) == 1
    assert cli.main([*words, "--trust"]) == 0
    assert cli.main(words) == 0, "remembered"
    record = home / "kiyas" / "trusted.json"
    assert stat.S_IMODE(record.stat().st_mode) == 0o600 and list(json.loads(record.read_text())) == [str(python)]
    assert [path.name for path in record.parent.iterdir()] == ["trusted.json"]
    site = next((tmp_path / "study" / "venv" / "lib").glob("python*/site-packages"))
    for changed in (site / "x.pth", python.parent.parent / "pyvenv.cfg", site / "sitecustomize.py"):
        before = changed.read_bytes() if changed.exists() else None
        changed.write_bytes((before or b"") + b"\n")
        capsys.readouterr()
        assert cli.main(words) == 1 and "has changed since it was trusted" in capsys.readouterr().err
        changed.unlink() if before is None else changed.write_bytes(before)
        assert cli.main(words) == 0
    record.chmod(0o666)
    assert cli.main(words) == 1, "a record that anybody may write trusts nothing"


def test_what_lies_elsewhere_is_not_asked_for(tmp_path: Path) -> None:
    trust.allow(sys.executable, [tmp_path], ask=False)
    trust.allow(None, [tmp_path])
    trust.allow("/no/such/python", [tmp_path], ask=False)


def test_links_are_followed(evil: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "python").symlink_to(evil)
    (tmp_path / "study" / "py").symlink_to(sys.executable)
    (tmp_path / "there").symlink_to(tmp_path / "study")
    dotted = outside / ".." / "study" / "env" / "bin" / "python"
    monkeypatch.setenv("PATH", f"{evil.parent}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    for python in (outside / "python", tmp_path / "study" / "py", dotted, "python", "study/env/bin/python"):
        for folder in (tmp_path / "study", tmp_path / "there", Path("study")):
            with pytest.raises(JudgeError, match="--trust"):
                trust.allow(str(python), [folder], ask=False)
    (outside / "loop").symlink_to(outside / "loop")
    trust.allow(str(outside / "loop"), [tmp_path], ask=False)


def test_a_study_file_that_is_a_link(evil: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link.yaml").symlink_to(study(tmp_path / "study", evil))
    assert cli.main(["check", str(tmp_path / "link.yaml")]) == 1 and "--trust" in capsys.readouterr().err


def test_the_run_folders_own(tmp_path: Path, evil: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(tmp_path / "study", tmp_path / "runs" / "s")
    inside = tmp_path / "runs" / "s" / "env" / "bin" / "python"
    (tmp_path / "mine").mkdir()
    words = ["run", str(study(tmp_path / "mine", inside)), "--runs", str(tmp_path / "runs")]
    assert cli.main(words) == 1 and "--trust" in capsys.readouterr().err


def test_a_home_that_cannot_be_written(
    evil: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    trust.allow(str(evil), [tmp_path / "study"], trust=True)
    said = capsys.readouterr().err
    assert said.startswith("--trust holds for this command only: ") and len(said.splitlines()) == 1


def test_on_a_terminal_the_user_is_asked(
    evil: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(getattr(sys, stream), "isatty", lambda: True, raising=False)
    for answer, allowed in (("\n", False), ("n\n", False), ("", False), ("y\n", True), ("", True)):
        monkeypatch.setattr(sys.stdin, "readline", lambda answer=answer: answer, raising=False)
        try:
            trust.allow(str(evil), [tmp_path / "study"])
            assert allowed
        except JudgeError:
            assert not allowed
    assert "[y/N]" in capsys.readouterr().err


def test_the_digest_covers_the_start_only(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    trust.allow(str(python), [tmp_path], trust=True)
    (site / "package.py").write_text("x = 1\n")
    trust.allow(str(python), [tmp_path], ask=False)
    (site / "usercustomize.py").write_text("x = 1\n")
    with pytest.raises(JudgeError):
        trust.allow(str(python), [tmp_path], ask=False)
