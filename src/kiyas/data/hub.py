"""Models and data sets by Hub id: fetched once into Hugging Face's own cache, and pinned to a commit.

A name that exists as a local file or folder is that; `owner/name` is otherwise looked up on the Hub (`HF_ENDPOINT`,
`HF_TOKEN`, `HF_HUB_OFFLINE` hold as everywhere). No code from a repository is ever run.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiyas import practice
from kiyas.judge.terminal import as_before
from kiyas.runfolder.files import read_json
from kiyas.study import limits
from kiyas.study.settings import PRACTICE, Benchmark, Study, is_hub_id
from kiyas.types import KiyasError

# What a model needs to be loaded: never code, never a second copy of the weights in another format.
MODEL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]


def pinned(study: Study, recorded: Study | None = None) -> Study:
    """The study with the commit of every Hub repository in its `revision` keys.

    A run folder that was started with some commit (`recorded`, its study) keeps it, unless the study file names a
    revision itself. Raises KiyasError, one line, for what is absent, gated or cannot be reached.
    """

    def commit(kind: str, repo: str | None, revision: str | None, before: str | None) -> str | None:
        """`before`: the commit that was recorded for the same repository."""
        if repo is None or not is_hub_id(repo):
            return revision
        return find_commit(kind, repo, revision or before)

    begun_with = recorded.arms if recorded else {}
    arms = {}
    for name, arm in study.arms.items():
        then = begun_with.get(name)
        before = then.revision if then and then.dataset_name == arm.dataset_name else None
        arms[name] = arm.model_copy(update={"revision": commit("dataset", arm.dataset_name, arm.revision, before)})
    asked_before = {each.dataset: each.revision for each in recorded.benchmarks.named.values()} if recorded else {}

    def benchmark(each: Benchmark) -> Benchmark:
        before = asked_before.get(each.dataset)
        return each.model_copy(update={"revision": commit("dataset", each.hub_id, each.revision, before)})

    same = recorded is not None and recorded.model_name_or_path == study.model_name_or_path
    before = recorded.model_revision if recorded and same else None
    return study.model_copy(
        update={
            "model_revision": commit("model", study.model_name_or_path, study.model_revision, before),
            "arms": arms,
            "benchmarks": study.benchmarks.each(benchmark),
        }
    )


FETCH = "fetch it once online"


def _fetched(kind: str, name: str) -> list[Any]:
    """What the cache has of a repository, as huggingface_hub describes it; nothing where it was never fetched."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    with contextlib.suppress(CacheNotFound):
        return [repo for repo in scan_cache_dir().repos if (repo.repo_type, repo.repo_id) == (kind, name)]
    return []


def find_commit(kind: str, name: str, revision: str | None = None) -> str:
    """The commit of a revision (default: main): asked of the Hub; offline, what the cache remembers."""
    from huggingface_hub import HfApi, constants

    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    if constants.is_offline_mode():
        for repo in _fetched(kind, name):
            ref = repo.refs.get(revision or "main")
            if ref is not None:
                return str(ref.commit_hash)
        raise KiyasError(f"{name}: not in the cache, and HF_HUB_OFFLINE forbids downloads", FETCH)
    with told(kind, name, revision):
        return str(HfApi().repo_info(name, repo_type=kind, revision=revision).sha)


def model_folder(name: str, revision: str | None = None, *, weights: bool = True) -> Path:
    """Folder of a base model: the shipped one for `practice`, a local one, or the Hub's snapshot, fetched if needed.

    Without `weights` the Hub is asked for the configuration and the tokenizer only.
    """
    if name == PRACTICE:
        return practice.base_path()
    if not is_hub_id(name):
        return Path(name)
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    commit = find_commit("model", name, revision)
    with contextlib.suppress(LocalEntryNotFoundError):
        folder = Path(snapshot_download(name, revision=commit, local_files_only=True))
        if is_complete(folder):
            return folder
    with told("model", name, revision):
        if not weights:
            return Path(snapshot_download(name, revision=commit, allow_patterns=MODEL_FILES, ignore_patterns=["*/*"]))
        files = [sibling.rfilename for sibling in HfApi().model_info(name, revision=commit).siblings or []]
        tensors = "*.safetensors" if any(file.endswith(".safetensors") for file in files) else "*.bin"
        wanted = [pattern for pattern in (*MODEL_FILES, tensors) if "/" not in pattern]
        return Path(snapshot_download(name, revision=commit, allow_patterns=wanted, ignore_patterns=["*/*"]))


def base_folder(study: Study, elsewhere: Iterable[tuple[str, str]] = ()) -> Path:
    """Folder of the study's base model. `elsewhere`: names of models whose folders are known."""
    name, known = study.model_name_or_path, dict(elsewhere)
    return Path(known[name]) if name in known else model_folder(name, study.model_revision)


def without_weights(study: Study) -> Study:
    """The study with its base from a local folder, for what needs no weights: a base on the Hub is fetched without."""
    folder = model_folder(study.model_name_or_path, study.model_revision, weights=False)
    return (
        study.model_copy(update={"model_name_or_path": str(folder)}) if is_hub_id(study.model_name_or_path) else study
    )


def is_complete(folder: Path) -> bool:
    """Whether a snapshot holds a configuration and all weights (another download may have stopped half-way)."""
    if not (folder / "config.json").exists():
        return False
    for index in (*folder.glob("*.safetensors.index.json"), *folder.glob("*.bin.index.json")):
        found = read_json(index)
        shards = found["weight_map"] if isinstance(found, dict) and "weight_map" in found else None
        if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
            raise KiyasError(f"{index}: expected the shards of a model in weight_map", "download the model again")
        return all((folder / shard).is_file() for shard in shards.values())
    return any(path.is_file() for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern))


PART = 1000
"""Rows that are taken out of a data set at once."""


@dataclass(frozen=True)
class HubRows:
    """The rows of a data set on the Hub. Its files stay in the cache; rows are made when they are gone through."""

    parts: Mapping[str, Any]
    """by split"""

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        several = len(self.parts) > 1
        for split, part in self.parts.items():
            for start in range(0, len(part), PART):
                for row in part.select(range(start, min(start + PART, len(part)))).to_list():
                    yield {**row, "split": split} if several and "split" not in row else row


def dataset_rows(name: str, revision: str | None = None, config: str | None = None) -> Iterable[dict[str, Any]]:
    """All rows of a data set on the Hub. Where it has several splits, and no column `split`, each row says its own."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    commit = find_commit("dataset", name, revision)
    with told("dataset", name, revision):
        parts = datasets.load_dataset(name, config, revision=commit)
    rows = HubRows(parts)
    limits.ROWS.refuse_above(len(rows), name)
    return rows


def dataset_file(name: str, file: str, revision: str | None = None) -> Path:
    """One file of a data set's repository."""
    from huggingface_hub import hf_hub_download

    with told("dataset", name, revision, file):
        return Path(hf_hub_download(name, file, repo_type="dataset", revision=revision))


@contextlib.contextmanager
def told(kind: str, name: str, revision: str | None, file: str = "") -> Iterator[None]:
    """Turns what the Hub's client raises into one line that says what to do."""
    import httpx2
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    what = {"model": "model", "dataset": "data set"}[kind]
    try:
        with as_before(), _retries_in_one_line(name):  # its bars move the cursor
            yield
    except errors.GatedRepoError:
        raise KiyasError(
            f"{name}: this {what} is gated, and you have no access to it",
            f"ask for access on its page, then `hf auth login` or set HF_TOKEN ({constants.ENDPOINT})",
        ) from None
    except errors.RevisionNotFoundError:
        raise KiyasError(f"{name}: this {what} has no revision {revision!r}", "a branch, a tag or a commit") from None
    except errors.RepositoryNotFoundError:
        raise KiyasError(
            f"{name}: no such {what} on the Hub, or it is private (and there is no such local file or folder)",
            "check the spelling, owner/name; for a private one `hf auth login` or set HF_TOKEN",
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise KiyasError(f"{name}: not in the cache, and the Hub cannot be reached", FETCH) from None
    except errors.EntryNotFoundError:
        raise KiyasError(f"{name}: this {what} has no {file or 'such file'}") from None
    except httpx2.TransportError as error:
        if not _fetched(kind, name):
            raise KiyasError(f"{name}: not in the cache, and the Hub cannot be reached", FETCH) from None
        raise KiyasError(
            f"{name}: {constants.ENDPOINT} cannot be reached: {_first_line(error)}",
            "set HF_HUB_OFFLINE=1 to use what was fetched before",
        ) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise KiyasError(
            f"{name}: this {what} could not be read from the Hub: {_first_line(error)}",
            f"is {constants.ENDPOINT} reachable?"
            + (" HF_HUB_OFFLINE=1 uses what was fetched before" if _fetched(kind, name) else ""),
        ) from error


@contextlib.contextmanager
def _retries_in_one_line(name: str) -> Iterator[None]:
    """The Hub's client announces each attempt in two lines: one line of ours takes their place."""
    logger, announced = logging.getLogger("huggingface_hub.utils._http"), list[str]()

    def passes(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "thrown while requesting" not in text and not text.startswith("Retrying in"):
            return True
        if not announced:
            print(f"{name}: the Hub does not answer; trying again, for half a minute at most", file=sys.stderr)
        announced.append(text)
        return False

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
