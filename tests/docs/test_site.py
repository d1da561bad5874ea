"""The documentation as a site: it builds strictly, its generated parts are as they would be made now."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pages import DOCS, ROOT, script

from kiyas.study.keys import keys

pytest.importorskip("zensical")
MADE_NEW = "run `make docs` and commit what it changes"


@pytest.fixture(scope="module")
def made() -> dict[Path, str]:
    found: dict[Path, str] = script().generated()
    return found


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=folder, capture_output=True, text=True
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    return tmp_path


def test_generated_parts_are_as_they_would_be_made_now(made: dict[Path, str]) -> None:
    stale = [path.name for path, text in made.items() if path.read_text(encoding="utf-8") != text]
    assert not stale, f"{', '.join(stale)}: {MADE_NEW}"


def test_it_builds_strictly_and_fetches_nothing(checkout: Path) -> None:
    built = build(checkout)
    assert built.returncode == 0, built.stdout + built.stderr
    site = checkout / "build" / "site"
    assert {page.stem for page in site.glob("*.html")} == {page.stem for page in DOCS.glob("*.md")} | {"404"}
    for page in site.glob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|link)\b[^>]*(?:src|href)="(https?:[^"]*)"', page.read_text(encoding="utf-8")
        )
        assert not loaded, f"{page.name} loads {loaded}"


def test_a_broken_link_fails_the_build(checkout: Path) -> None:
    with (checkout / "docs" / "index.md").open("a", encoding="utf-8") as page:
        page.write("\n[a page](nowhere.md) and [a place](judge.md#nowhere)\n")
    built = build(checkout)
    assert built.returncode != 0 and "2 issues found" in built.stdout + built.stderr


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    named = re.findall(r"[\w-]+\.md", repr(nav))
    assert sorted(named) == sorted(page.name for page in DOCS.glob("*.md")), MADE_NEW


def test_every_command_has_a_page() -> None:
    docs = script()
    missing = [name for name in docs.commands() if not docs.page_of(name).is_file()]
    assert not missing, f"write docs/NAME.md for {', '.join(missing)}, then {MADE_NEW}"


def test_every_key_is_on_the_page_with_its_default(made: dict[Path, str]) -> None:
    page = made[DOCS / "keys.md"]
    for key in keys():
        if key.name in ("dataset", "peft") or not key.meaning:
            continue
        assert " ".join(key.meaning.split()).replace("|", "\\|") in page, key.name
        assert f"`{key.name}`" in page
        if key.default not in ("", "required"):
            assert f"| `{key.name}` | `{key.default}` |" in page, key.name


def test_the_reference_has_every_public_name(made: dict[Path, str]) -> None:
    import kiyas
    from kiyas import interop, judge, practice

    page = made[DOCS / "api.md"]
    for module in (kiyas, judge, practice, interop):
        for name in module.__all__:
            assert name.startswith("__") or f"### `{module.__name__}.{name}`\n" in page


def test_a_page_that_nothing_names_becomes_a_guide(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    docs = script()
    monkeypatch.setattr(docs, "DOCS", checkout / "docs")
    (checkout / "docs" / "serving.md").write_text("# Serving\n")
    (checkout / "docs" / "runs.md").unlink()
    nav = docs.nav()
    assert '"serving.md"' in nav and "runs.md" not in nav


def test_relative_links_of_the_repository_lead_somewhere() -> None:
    """As GitHub shows them: the README's, and those between the documents."""
    for page in (*ROOT.glob("*.md"), *DOCS.glob("*.md")):
        for link in re.findall(r"\]\(([^)#:\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
