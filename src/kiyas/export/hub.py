"""An exported folder to the Hub, through its own client. What goes where is said before anything does."""

from __future__ import annotations

import re
from pathlib import Path

from kiyas.judge.terminal import as_before
from kiyas.types import KiyasError
from kiyas.work.progress import tell


def refuse_unready(repo: str) -> None:
    """Raises KiyasError where nothing could be pushed: a name that is none, no token, offline. Asks nobody."""
    from huggingface_hub import constants, get_token

    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo):
        raise KiyasError(f"--push {repo!r}: not the name of a repository", "write it as owner/name")
    if constants.is_offline_mode():
        raise KiyasError("--push: HF_HUB_OFFLINE forbids it", "unset it, or leave --push out and push later: hf upload")
    if get_token() is None:
        raise KiyasError(
            f"--push {repo}: this machine has no token of the Hub",
            "`hf auth login`, or set HF_TOKEN; the token needs permission to write",
        )


def push(folder: Path, repo: str, *, private: bool) -> str:
    """Uploads the folder as one commit; returns its address. `private`: how the repository is made, if it is not there.

    Raises KiyasError where the Hub refuses the card, before a repository is made; or anything else.
    """
    import httpx2
    from huggingface_hub import HfApi, ModelCard, constants
    from huggingface_hub.errors import HfHubHTTPError

    api, files = HfApi(), sorted(path for path in folder.rglob("*") if path.is_file())
    again = f"{folder} is whole; to push it later: hf upload {repo} {folder} ."
    try:
        ModelCard.load(folder / "README.md").validate()
        there = api.repo_exists(repo)
        seen = "there already; who sees it does not change" if there else "new, private" if private else "new, public"
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
        hint = f"the token needs permission to write there: hf auth whoami. {again}" if refused else again
        raise KiyasError(f"--push {repo}: the Hub refused it: {_line(error)}", hint) from None
    except (OSError, RuntimeError) as error:
        raise KiyasError(f"--push {repo}: {_line(error)} {_line(error.__cause__ or error)}", again) from error
    except ValueError as error:
        raise KiyasError(f"--push {repo}: the Hub refused the model card: {_line(error)}", again) from None
    return str(done.commit_url)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
