"""Which interpreter may be started: one that came with a stranger's files only after the user has said so.

A study file, a run folder or a folder of answers may hold a program and name it as `judge.python`. An interpreter that
lies in the folder of such a file, by its name or by any link on the way, is therefore refused until `--trust` is given
once. What was trusted is remembered on this machine with a digest: where it changes, it is asked for again.

So is a study file that asks for weak isolation, unless the command line does.

Not guaranteed: the digest covers the interpreter and what it runs at its start (pyvenv.cfg, .pth files, sitecustomize),
not every package in its environment. Programs run in the sandbox all the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from .pulse import on_screen
from .terminal import one_line, printable
from .tiers import choose
from .types import Isolation, JudgeError, Tier

MOST_LINKS = 40
STARTED_WITH = ("*.pth", "sitecustomize.py", "usercustomize.py", "sitecustomize/__init__.py")


def allow(python: str | None, folders: Iterable[Path], *, trust: bool = False, ask: bool = True) -> None:
    """Raises JudgeError for an interpreter that lies in one of these folders and is not trusted.

    `trust`: the user says now that it is. `ask`: on a terminal the user is asked.
    """
    if python is None:
        return
    path = _found(python)
    if path is None or not _inside(path, folders):
        return  # one that is not there is refused where it is started
    what = f"the interpreter {one_line(str(path))}"
    _confirm(str(path), _digest(path), what, "came with these files", "it would be started for you", trust, ask)


def allow_weak(study: Path, isolation: str, *, trust: bool = False, ask: bool = True) -> None:
    """Raises JudgeError where a study file asks for a tier that here is weak, and the user has not said that it may.

    Programs, and the tests of its problems, could then read and change the user's files.
    """
    if isolation == Isolation.BEST and choose(isolation) is not Tier.WEAK:
        return
    if isolation not in (Isolation.BEST, Isolation.WEAK):
        return
    with study.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    name, what = f"judge.isolation of {study.resolve()}", f"the study file {one_line(str(study))}"
    _confirm(name, digest, what, "asks for weak isolation", "its programs could read your files", trust, ask)


def _confirm(name: str, digest: str, what: str, why: str, danger: str, trust: bool, ask: bool) -> None:
    """Raises JudgeError for what nobody trusts; remembers what somebody does. `digest`: of what it is now."""
    known = _trusted()
    if known.get(name) == digest:
        return
    said = f"{what} {'has changed since it was trusted' if name in known else why}"
    if not trust and not (ask and _asked(said)):
        raise JudgeError(
            f"{said}: {danger}",
            "look at it first; --trust says that you trust it, once for this file on this machine",
        )
    _remember({**known, name: digest})


def folder_of(source: Path) -> Path:
    """A folder that somebody gave, or the one that holds a file."""
    return source if source.is_dir() else source.parent


def _found(python: str) -> Path | None:
    found = shutil.which(python)
    return None if found is None else Path(found).absolute()


def _inside(path: Path, folders: Iterable[Path]) -> bool:
    """Whether the path, or anything that a link on the way leads to, lies below one of the folders."""
    roots = [root for folder in folders for root in (_plain(folder.absolute()), folder.resolve())]
    return any(step.is_relative_to(root) for step in _steps(path) for root in roots)


def _plain(path: Path) -> Path:
    """Without `..`, links kept."""
    return Path(os.path.normpath(path))


def _steps(path: Path) -> Iterator[Path]:
    """The path as it is named, and each place that its links lead to."""
    for _ in range(MOST_LINKS):
        yield _plain(path)
        real = path.parent.resolve() / path.name
        yield real
        if not real.is_symlink():
            return
        path = real.parent / real.readlink()
    raise JudgeError(f"the interpreter {one_line(str(path))} is a loop of links", "name another one")


def _digest(path: Path) -> str:
    """Of the interpreter and of what it reads before the first line of a program."""
    prefix = path.parent.parent
    files = [path, path.parent / "pyvenv.cfg", prefix / "pyvenv.cfg"]
    for folder in sorted(prefix.glob("lib*/python*")):
        for place in (folder, folder / "site-packages"):
            files += sorted(found for pattern in STARTED_WITH for found in place.glob(pattern))
    total = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as opened:
                total.update(f"{file}\0{hashlib.file_digest(opened, 'sha256').hexdigest()}\0".encode(errors="replace"))
    return total.hexdigest()


def _asked(said: str) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{said}. Do you trust it? [y/N] ", end="", file=sys.stderr, flush=True)
    with on_screen():
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def record() -> Path:
    """The file of what this user trusts."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(given) if Path(given).is_absolute() else Path("~/.config").expanduser()
    return folder / "kiyas" / "trusted.json"


def _trusted() -> dict[str, str]:
    """Path → digest. A file that cannot be read, or that others may write, trusts nothing."""
    try:
        file = record()
        there = file.stat()
        if there.st_uid != os.geteuid() or there.st_mode & 0o022:
            return {}
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, RecursionError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _remember(known: dict[str, str]) -> None:
    """Whole or not at all; where it cannot be written, --trust holds for this command."""
    try:
        file = record()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as opened:
                json.dump(known, opened, indent=1)
                opened.flush()
                os.fsync(descriptor)
            temporary.replace(file)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        print(printable(f"--trust holds for this command only: {error}"), file=sys.stderr)
