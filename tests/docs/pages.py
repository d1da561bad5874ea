"""The pages whose commands are run, and their code blocks."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NOT_RUN = re.compile(r"# Not run by our tests( here| on this page)?: \S")
"""How a block's first line says that no test runs it, with the reason."""
LONG = re.compile(
    r"^kiyas (demo|run |check |doctor|export |ask |report (?!.*--text)|compare .*--out)|^python", re.MULTILINE
)
"""What takes seconds or more: those blocks are run by the slow tests only."""


def script() -> ModuleType:
    """scripts/docs.py."""
    found = importlib.util.spec_from_file_location("docs_script", ROOT / "scripts" / "docs.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Block:
    """One fenced block: ```language title="FILE"."""

    page: str
    line: int
    language: str
    title: str
    text: str

    @property
    def is_run(self) -> bool:
        return self.language == "sh" and not NOT_RUN.match(self.text)

    @property
    def is_long(self) -> bool:
        return bool(LONG.search(self.text))

    def commands(self) -> list[str]:
        """Its lines, without comments and with those put together that end in a back-slash."""
        joined = self.text.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def blocks(page: Path) -> list[Block]:
    found, fence, start = [], None, 0
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if fence is None and (opened := re.match(r"\s*(`{3,})\s*([\w-]*)(.*)$", line)):
            fence, start = opened, number
        elif fence is not None and line.strip() == fence[1]:
            title = re.search(r'title="([^"]+)"', fence[3])
            text = "\n".join(lines[start : number - 1]) + "\n"
            found.append(Block(page.name, start, fence[2], title[1] if title else "", text))
            fence = None
    assert fence is None, f"{page.name}:{start}: a block that does not end"
    return found
