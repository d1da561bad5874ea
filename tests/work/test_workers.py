"""Worker processes: shares of work, mistakes told as the parent's own, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from kiyas.types import KiyasError
from kiyas.work import workers
from kiyas.work.progress import bar
from kiyas.work.workers import OnProgress, WorkerError, run_parts


def work(what: str, report: OnProgress) -> None:
    import torch

    report(1, "")
    if what == "mistake":
        raise KiyasError("the data is wrong", "mend it")
    if what == "bug":
        raise ZeroDivisionError("ours")
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "sleep":
        time.sleep(600)
    assert torch.get_num_threads() == 1
    report(2, "done")


def run(*parts: str) -> int:
    with bar("test", 10, "units") as progress:
        run_parts(work, [(part,) for part in parts], progress)
    return progress.done


def test_units_of_all_parts_are_counted() -> None:
    assert run("fine", "fine", "fine") == 9


@pytest.mark.parametrize(
    ("what", "kind", "told"),
    [
        ("mistake", KiyasError, "the data is wrong\n  hint: mend it"),
        ("bug", WorkerError, "ZeroDivisionError: ours"),
        ("killed", KiyasError, "signal SIGKILL"),
    ],
)
def test_one_failure_stops_all(what: str, kind: type[Exception], told: str) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(kind, match=told):
        run("sleep", what)
    left = [c for c in psutil.Process().children(recursive=True) if c.pid not in before and not _idle(c)]
    assert left == []


def _idle(process: psutil.Process) -> bool:
    """The server that workers are forked from, and multiprocessing's own bookkeeper, stay."""
    command = " ".join(process.cmdline())
    return "forkserver" in command or "resource_tracker" in command or process.status() == psutil.STATUS_ZOMBIE


def test_workers_die_with_a_killed_parent() -> None:
    code = (
        "import test_workers\n"
        "if __name__ == '__main__':\n"
        "    import os; print(os.getpid(), flush=True)\n"
        "    test_workers.run('sleep', 'sleep')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    family: list[Any] = []
    while len(family) < 4 and time.monotonic() < deadline:  # bookkeeper, server, two workers
        family = psutil.Process(parent.pid).children(recursive=True)
        time.sleep(0.1)
    assert len(family) >= 4
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while (left := [p for p in family if not _ended(p)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        process.kill()
    assert left == []


def _ended(process: psutil.Process) -> bool:
    """A zombie has ended: when it is reaped is the machine's affair."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    monkeypatch.setattr(workers, "uses_gpu", lambda device: device == "cuda")
    assert workers.default_workers("cuda", 1000, 6) == 1
    assert workers.default_workers("cpu", 1000, 6) == 6
    assert workers.default_workers("cpu", 1000, 60) == 8
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert workers.default_workers("cpu", memory // 3, 60) == 1
