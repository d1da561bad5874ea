"""Shared by all tests: where the real data lies, and one PyTorch thread a process."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["COLUMNS"] = "100"
sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`: a file goes to one process, for its fixtures' sake, so do all of faults/, and the judge's tests, since
    programs of an ordinary user share that user's limit of processes."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((name for name in ("judge", "faults") if file.startswith(f"tests/{name}/")), file)

    return ByFile(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that is not ours to commit: KIYAS_SHARED_DATA, or `../shared/data` beside the repository."""
    folder = Path(os.environ.get("KIYAS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the shared real data is not at {folder} (set KIYAS_SHARED_DATA)")
    return folder


@pytest.fixture(autouse=True, scope="session")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes what the user of this machine trusts."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))


@pytest.fixture(autouse=True, scope="session")
def no_sign_of_life() -> None:
    """Lines that a slow machine adds would be counted by tests of messages. tests/work/test_progress.py has its own."""
    from kiyas.judge import pulse

    pulse.EVERY_S = 600.0


@pytest.fixture(autouse=True, scope="session")
def own_engine() -> Iterator[Any]:
    """One process draws the charts of all tests, since to start it takes longer than to draw; this starts another."""
    from kiyas.report import drawing

    own, started = drawing.engine, drawing.Engine()
    drawing.engine = lambda: contextlib.nullcontext(started)
    yield own
    drawing.engine = own
    started.close()
