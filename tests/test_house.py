"""A ratchet: what makes the source hard to find one's way in is counted, and may only become less.

Where a change lowers a number, lower it here too. Only an issue that names a new room may raise one.
"""

from __future__ import annotations

import ast
import itertools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "kiyas"
FILES_ON_TOP = {"api.py", "cli.py", "types.py"}
MOST = {"rooms": 19, "arrows": 116, "literal keys": 45}
READERS = ("interop", "judge")
"""Rooms that read other people's files, where a key may be absent."""


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms that a file imports from, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            whole = node.module == "kiyas"
            names = [f"kiyas.{alias.name}" for alias in node.names] if whole else [node.module]
        found |= {name.split(".")[1] for name in names if name.startswith("kiyas.")}
    return found - {room_of(path)}


@pytest.fixture(scope="module")
def arrows() -> set[tuple[str, str]]:
    files = [path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.name in FILES_ON_TOP]
    return {(room_of(path), room) for path in files for room in imported(path)}


def layers() -> dict[str, int]:
    """How high each room is, by the first import contract."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    order = contracts[0]["layers"]
    return {room.strip(): -height for height, rooms in enumerate(order) for room in rooms.split("|")}


def count(what: str, found: int) -> None:
    assert found <= MOST[what], f"{found} {what}, at most {MOST[what]} are allowed: see the docstring of this file"
    assert found == MOST[what], f"only {found} {what} are left: lower the number in this file"


def test_files_on_top_and_rooms() -> None:
    faces = {"__init__.py", "__main__.py"}
    assert {path.name for path in SOURCE.glob("*.py")} == FILES_ON_TOP | faces
    rooms = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    count("rooms", len(rooms))
    assert rooms | {name.removesuffix(".py") for name in FILES_ON_TOP} <= layers().keys()


def test_arrows_between_rooms(arrows: set[tuple[str, str]]) -> None:
    count("arrows", len(arrows))


def test_no_arrow_upwards_and_no_circle(arrows: set[tuple[str, str]]) -> None:
    height = layers()
    assert [(a, b) for a, b in sorted(arrows) if height[a] <= height[b]] == []
    assert not [(a, b) for a, b in itertools.combinations(sorted(height), 2) if {(a, b), (b, a)} <= arrows]


def test_literal_keys_with_a_default() -> None:
    """`row.get("key")` reads a dict as if it were a noun, and hides what happens where the key is missing."""
    files = [path for path in SOURCE.rglob("*.py") if room_of(path) not in READERS]
    count("literal keys", sum(len(re.findall(r"\.get\(\s*[\"']", path.read_text(encoding="utf-8"))) for path in files))


def test_every_room_says_what_it_is_for() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in SOURCE.iterdir():
        if (path / "__init__.py").exists():
            assert ast.get_docstring(ast.parse((path / "__init__.py").read_text(encoding="utf-8"))), path.name
            assert f"`{path.name}/`" in readme, f"the README does not name {path.name}/"
