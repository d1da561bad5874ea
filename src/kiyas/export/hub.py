"""Uploads an exported folder to the Hub, with the Hub's client; says before what goes where."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from kiyas.data import hub
from kiyas.judge.terminal import as_before
from kiyas.study import limits
from kiyas.study.settings import Benchmark
from kiyas.types import KiyasError, listed
from kiyas.work.progress import tell


def task_of(benchmark: Benchmark) -> str:
    """What the leaderboard of a benchmark's data set calls our configuration of it: as its `eval.yaml` says, where that
    can be read; else as the configuration is called."""
    assert benchmark.known is not None
    own = benchmark.known.hub_config or "default"
    tasks = (each for each in _tasks(benchmark) if isinstance(each, dict) and {"config", "id"} <= each.keys())
    found = next((each["id"] for each in tasks if each["config"] == own), own)
    return found if isinstance(found, str) else own


def _tasks(benchmark: Benchmark) -> Sequence[Any]:
    assert benchmark.hub_id is not None
    # There is none, or we are offline; or it is a stranger's file that holds something else.
    with contextlib.suppress(KiyasError, YAMLError, OSError, ValueError, RecursionError):
        path = hub.dataset_file(benchmark.hub_id, "eval.yaml", benchmark.revision)
        limits.STUDY_FILE.refuse_above(path.stat().st_size, path)
        value = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        return listed(value["tasks"]) if isinstance(value, dict) and "tasks" in value else []
    return []


def refuse_unready(repo: str) -> None:
    """Raises KiyasError where nothing could be pushed: a name that is none, no token, offline. Asks nobody."""
    from huggingface_hub import constants, get_token

    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo):
        raise KiyasError(f"--push {repo!r}: not the name of a repository", "write it as owner/name")
    if constants.is_offline_mode():
        raise KiyasError(
            "--push: HF_HUB_OFFLINE is set, so nothing can be uploaded",
            "unset it, or leave --push out and push later with hf upload",
        )
    if get_token() is None:
        raise KiyasError(
            f"--push {repo}: no Hub token was found on this machine",
            "run `hf auth login`, or set HF_TOKEN; the token needs permission to write",
        )


def push(folder: Path, repo: str, *, private: bool) -> str:
    """Uploads the folder as one commit; returns its address. `private`: how the repository is made, if it is not there.

    Raises KiyasError where the Hub refuses the card, before a repository is made; or anything else.
    """
    import httpx2
    from huggingface_hub import HfApi, ModelCard, constants
    from huggingface_hub.errors import HfHubHTTPError

    api, files = HfApi(), sorted(path for path in folder.rglob("*") if path.is_file())
    again = f"{folder} is complete; to push it later: hf upload {repo} {folder} ."
    try:
        ModelCard.load(folder / "README.md").validate()
        there = api.repo_exists(repo)
        seen = (
            "exists already, its visibility does not change" if there else "new, private" if private else "new, public"
        )
        tell(f"uploading to {constants.ENDPOINT}/{repo} ({seen}):")
        for path in files:
            tell(f"  {path.relative_to(folder)}  {path.stat().st_size:,} bytes")
        with as_before():  # its bars move the cursor
            api.create_repo(repo, private=private, exist_ok=True)
            done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Exported by Kıyas")
    except httpx2.TransportError as error:
        raise KiyasError(f"--push {repo}: {constants.ENDPOINT} cannot be reached: {_line(error)}", again) from None
    except HfHubHTTPError as error:
        refused = error.response is not None and error.response.status_code in (401, 403)
        hint = f"the token needs permission to write there; see hf auth whoami. {again}" if refused else again
        raise KiyasError(f"--push {repo}: the Hub refused the upload: {_line(error)}", hint) from None
    except (OSError, RuntimeError) as error:
        raise KiyasError(f"--push {repo}: {_line(error)} {_line(error.__cause__ or error)}", again) from error
    except ValueError as error:
        raise KiyasError(f"--push {repo}: the Hub refused the model card: {_line(error)}", again) from None
    return str(done.commit_url)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
