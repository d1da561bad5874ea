"""Every shell block of the documentation is run, or its first line says that it is not, and why."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import DOCS, LONG, NOT_RUN, ROOT, Block, blocks, script

from kiyas import cli

PAGES = (
    DOCS / "index.md",
    DOCS / "tutorial.md",
    DOCS / "serving.md",
    *dict.fromkeys(path for path, _ in script().command_pages()),
)
LANGUAGES = {"sh", "text", "json", "yaml", "html", "python"}
BLOCKS = {page.name: blocks(page) for page in PAGES}


def ids(page: Path) -> str:
    return page.stem


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_block_is_unclassified(page: Path) -> None:
    for block in BLOCKS[page.name]:
        where = f"{page.name}:{block.line}"
        assert block.language in LANGUAGES, f"{where}: name the block's language: sh is run, text is not"
        if block.language != "sh":
            shell = re.search(r"^(\$ |kiyas |make |pip |python3? -m )", block.text, re.MULTILINE)
            assert not shell, f"{where}: commands belong in a block of the language sh"
        elif not NOT_RUN.match(block.text):
            assert "Not run" not in block.text, f"{where}: the first line is `# Not run by our tests: REASON`"
            assert block.commands(), f"{where}: a block without a command"


@pytest.mark.parametrize("page", [*sorted(DOCS.glob("*.md")), ROOT / "README.md"], ids=ids)
def test_every_command_that_is_shown_is_one(page: Path) -> None:
    """Also those that no test runs: the command, its options and its arguments exist."""
    for block in blocks(page):
        for line in block.commands() if block.language == "sh" else ():
            for command in re.split(r"&&|\||>", line.partition(" #")[0]):
                words = shlex.split(command)
                if words[:1] == ["kiyas"]:
                    with contextlib.redirect_stderr(io.StringIO()) as said:
                        try:
                            args, rest = cli.build_parser().parse_known_args(words[1:])
                        except SystemExit:
                            pytest.fail(f"{page.name}:{block.line}: {command.strip()}: {said.getvalue()}")
                    assert not [word for word in rest if "=" not in word], f"{page.name}:{block.line}: {command}"
                    assert hasattr(args, "call")


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_what_is_quick_is_run(page: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process. What follows from a long block of the page is long, too, or does without it."""
    monkeypatch.chdir(workspace)
    for block in BLOCKS[page.name]:
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        for line in block.commands() if block.is_run and not block.is_long else ():
            command, _, file = line.partition(">")
            words = shlex.split(command, comments=True)
            assert words[0] == "kiyas", f"{page.name}:{block.line}: mark what the tests cannot run: {line}"
            out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
            with contextlib.redirect_stdout(out):
                assert cli.main(words[1:]) == 0, f"{page.name}:{block.line}: {line}"
            if file:
                out.flush()
                Path(file.strip()).write_bytes(out.buffer.getvalue())  # type: ignore[attr-defined]


def test_long_blocks_are_those_that_take_seconds() -> None:
    long = ("kiyas run s.yaml", "kiyas demo", "kiyas report runs/x", "kiyas compare a b --out c", "kiyas check s.yaml")
    quick = (
        "kiyas runs",
        "kiyas report runs/x --text",
        "kiyas compare a b",
        "kiyas keys",
        "kiyas judge a --problems b",
    )
    assert all(LONG.search(each) for each in long) and not any(LONG.search(each) for each in quick)


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The practice study, finished: `kiyas demo` on the pages goes on with it."""
    folder = tmp_path_factory.mktemp("practice")
    subprocess.run([sys.executable, "-m", "kiyas", "demo"], cwd=folder, check=True, timeout=900, capture_output=True)
    return folder / "runs" / "practice"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_block_is_run(page: Path, workspace: Path, practice: Path, tmp_path: Path) -> None:
    """By bash, with the installed command, in the order of the page; the same for blocks of Python."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "kiyas").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kiyas "$@"\n')
    (programs / "kiyas").chmod(0o755)
    shutil.rmtree(workspace / "runs" / "practice")
    shutil.copytree(practice, workspace / "runs" / "practice")
    path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
    for block in BLOCKS[page.name]:
        if block.title:
            (workspace / block.title).write_text(block.text, encoding="utf-8")
        if block.is_run or block.language == "python":
            shell = ["bash", "-euo", "pipefail", "-c"] if block.is_run else [sys.executable, "-c"]
            ran = _run(shell, block, workspace, path)
            assert ran.returncode == 0, f"{page.name}:{block.line}\n{block.text}\n{ran.stdout}\n{ran.stderr}"


def _run(shell: list[str], block: Block, folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*shell, block.text], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=900
    )
