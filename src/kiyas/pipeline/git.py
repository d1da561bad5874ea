"""The revision of the folder that a command was given in. The repository may be a stranger's: nothing of it is run.

A repository's own configuration names programs: hooks, a file system monitor, filters of contents, a transport for
objects that are missing. Each is switched off here before git looks at a file.
"""

from __future__ import annotations

import os
import shutil
import subprocess

SWITCHES = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.pager": "cat",
    "core.sshCommand": "false",
    "submodule.recurse": "false",
}
TIMEOUT_S = 10


def revision() -> str | None:
    """The commit of the working folder, with + where something is not committed; None where there is none."""
    folders = [each for each in os.get_exec_path() if os.path.isabs(each)]  # noqa: PTH117
    git = shutil.which("git", path=os.pathsep.join(folders))
    if git is None:
        return None
    try:
        commit = _ask(git, SWITCHES, "rev-parse", "--verify", "HEAD")
        # Each filter that the configuration names, whatever file asks for it, becomes no filter.
        named = _ask(git, SWITCHES, "config", "--null", "--name-only", "--get-regexp", r"^filter\.") or ""
        filters = {key: "" for key in named.split("\0") if key} | {
            f"{key.rpartition('.')[0]}.required": "false" for key in named.split("\0") if key
        }
        changed = _ask(git, {**SWITCHES, **filters}, "status", "--porcelain", "--ignore-submodules=all")
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return None if commit is None else commit.strip() + ("+" if (changed or "").strip() else "")


def _ask(git: str, settings: dict[str, str], *words: str) -> str | None:
    """What git says; None where it fails."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    pairs = {f"GIT_CONFIG_{what}_{n}": text for n, pair in enumerate(settings.items()) for what, text in zip(("KEY", "VALUE"), pair, strict=True)}  # fmt: skip  # noqa: E501
    environment = {
        **own,
        **pairs,
        "GIT_CONFIG_COUNT": str(len(settings)),
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_TERMINAL_PROMPT": "0",
    }
    done = subprocess.run(
        [git, *words], capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, env=environment
    )
    return None if done.returncode else done.stdout
