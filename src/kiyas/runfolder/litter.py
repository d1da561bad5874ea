"""What does not belong in a run folder: what a killed process left there, and what somebody else put there."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from kiyas.types import KiyasError

TEMPORARY = re.compile(r"\..+\.(\d{1,20})\.tmp", re.DOTALL)
"""`.NAME.PID.tmp`, a file or a folder that was being written"""
SMALL = ("analyse", "report", "trackers")
"""Folders that nobody has a reason to keep on another disk: links there could lead our files anywhere."""
GROWING = (".jsonl", ".seal")
"""files that are added to, not replaced"""


def sweep(root: Path) -> None:
    """Removes what dead processes were writing below `root`. Call it under the run folder's lock.

    Raises KiyasError for links that would lead what is written elsewhere.
    """
    real = root.resolve()
    for name in SMALL:
        for stage in (root / name, *_entries(root / name)):
            if stage.is_dir() or name == stage.name:
                _refuse_leading_out(stage, real)
    for place, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path, match = Path(place, name), TEMPORARY.fullmatch(name)
            if match is not None and _is_dead(int(match[1])):
                remove(path)
            elif name in files and path.suffix in GROWING:
                _refuse_leading_out(path, real)
        folders[:] = [name for name in folders if Path(place, name).is_dir()]


def _refuse_leading_out(path: Path, root: Path) -> None:
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
        raise KiyasError(f"{path} is a link out of the run folder", "put what it leads to in its place")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []  # whoever reads there says why it cannot be read


def _is_dead(pid: int) -> bool:
    """A process of our own number had it before us: we write nothing before this."""
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it, where there is one."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        # What stays would be taken for what is made next.
        raise KiyasError(
            f"cannot remove {error.filename or path}: {error.strerror}", "remove it, and run the same command again"
        ) from error
