"""Fresh environments, and what pyproject.toml declares."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TORCH = "torch==2.13.0"
"""As scripts/venv.sh installs it."""


def sh(*command: object, cwd: Path, timeout: float = 900, code: int = 0, **more: Any) -> str:
    """What the command prints; fails with it where it ends with another exit code."""
    ran = subprocess.run(
        [str(each) for each in command], cwd=cwd, capture_output=True, text=True, timeout=timeout, **more
    )
    said = ran.stdout + ran.stderr
    assert ran.returncode == code, f"{' '.join(map(str, command))}: exit code {ran.returncode}\n{said[-6000:]}"
    return said


class Environment:
    """A virtual environment of its own, which sees nothing of ours."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        subprocess.run([python, "-m", "venv", folder], check=True, timeout=300)
        self.folder, self.bin = folder, folder / "bin"

    def install(self, *what: object, more: Sequence[object] = ()) -> None:
        pip = (self.bin / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        sh(*pip, *more, *what, cwd=self.folder, timeout=1500)

    def kiyas(self, *arguments: object, cwd: Path, code: int = 0) -> str:
        return sh(self.bin / "kiyas", *arguments, cwd=cwd, code=code)

    def python(self, program: str, cwd: Path) -> str:
        return sh(self.bin / "python", "-c", program, cwd=cwd)
