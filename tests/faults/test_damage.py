"""One file of a finished run folder damaged: every command ends with the right findings, or refuses it by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from faults.table import COMMANDS, Said, call, outcome, situations


@pytest.fixture(scope="module")
def said(whole: Path) -> dict[str, Said]:
    """What every command says of the undamaged folder."""
    found = {name: call(command(whole), whole) for name, command in COMMANDS.items()}
    assert {name: each.code for name, each in found.items()} == dict.fromkeys(COMMANDS, 0), found
    return found


def rows(whole: Path, said: dict[str, Said], folder: Path, commands: list[str], every: int = 1) -> list[str]:
    """The rows of the table that are wrong; prints all."""
    wrong = []
    for file, damage in list(situations())[::every]:
        for command in commands:
            run = folder / "practice"
            shutil.copytree(whole, run)
            what, each = outcome(said, run, file, damage, command)
            line = f"{file:<75} {damage:<16} {command:<8} {what}"
            print(line)
            if what not in ("right", "refused"):
                wrong.append(f"{line}\n    {(each.err + each.out)[:400]}")
            shutil.rmtree(run)
    return wrong


def test_reading_commands(whole: Path, said: dict[str, Said], tmp_path: Path) -> None:
    assert not (wrong := rows(whole, said, tmp_path, ["report", "status"], every=13)), "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_whole_table(whole: Path, said: dict[str, Said], tmp_path: Path, command: str) -> None:
    assert not (wrong := rows(whole, said, tmp_path, [command])), "\n".join(wrong)
