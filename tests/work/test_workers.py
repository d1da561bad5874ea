"""Worker processes: shares of work, mistakes told as the parent's own, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from kiyas.types import KiyasError
from kiyas.work import workers
from kiyas.work.engine import OnProgress
from kiyas.work.progress import bar
from kiyas.work.workers import WorkerError, overlooked_gpu, places, run_parts, uses_gpu


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
        run_parts(work, [[(part,)] for part in parts], progress)
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


def lost(error: BaseException) -> KiyasError | None:
    return KiyasError("the device is lost", "again") if isinstance(error, ZeroDivisionError) else None


@pytest.mark.parametrize("lanes", [1, 2])
def test_an_error_of_the_device_is_put_in_words_in_every_process(lanes: int) -> None:
    with bar("test", 10, "units") as progress:
        with pytest.raises(KiyasError, match="the device is lost\n  hint: again"):
            run_parts(work, [[("bug",)]] * lanes, progress, lost)
        with pytest.raises(KiyasError, match="the data is wrong"):
            run_parts(work, [[("mistake",)]] * lanes, progress, lost)
        with pytest.raises(WorkerError if lanes > 1 else ZeroDivisionError, match="ours"):
            run_parts(work, [[("bug",)]] * lanes, progress)


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


def where(device: str, part: int, file: str, report: OnProgress) -> None:
    with Path(file).open("a", encoding="utf-8") as log:
        log.write(f"{device} {part} {os.getpid()}\n")
    report(1, "")


def test_parts_of_a_lane_run_in_turn_in_one_process(tmp_path: Path) -> None:
    file = tmp_path / "log"
    lanes = [[(f"cuda:{lane}", part, str(file)) for part in (lane, lane + 2)] for lane in range(2)]
    with bar("test", 4, "parts") as progress:
        run_parts(where, lanes, progress)
    rows = [row.split() for row in file.read_text().splitlines()]
    for lane in range(2):
        own = [(part, process) for device, part, process in rows if device == f"cuda:{lane}"]
        assert [part for part, _ in own] == [str(lane), str(lane + 2)] and len({process for _, process in own}) == 1
    assert len({process for *_, process in rows} - {str(os.getpid())}) == 2
    with bar("test", 2, "parts") as progress:
        run_parts(where, [[("cpu", 0, str(file)), ("cpu", 1, str(file))]], progress)
    assert file.read_text().splitlines()[-2:] == [f"cpu {part} {os.getpid()}" for part in range(2)]


# -- which devices there are ----------------------------------------------------------------------------------


def machine(
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    *,
    build: str = "'12.8'",
    present: bool = True,
    visible: str | None = None,
) -> None:
    """A machine whose torch was built with CUDA and sees so many GPUs."""
    torch, built = pytest.importorskip("torch"), workers._torch_computes_on_gpus
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: present if str(path).startswith("/dev/") else exists(path))
    read = Path.read_text

    def version(path: Path, *arguments: Any, **more: Any) -> str:
        if path.name == "version.py":
            return f"__version__ = 'x'\ncuda: Optional[str] = {build}\nhip: Optional[str] = None\n"
        return read(path, *arguments, **more)

    monkeypatch.setattr(Path, "read_text", version)
    assert built() == (build != "None")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


def test_one_worker_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 3)
    for device in ("auto", "cuda"):
        assert places(device, None, 1000, 9) == ["cuda:0", "cuda:1", "cuda:2"]
        assert places(device, None, 1000, 2) == ["cuda:0", "cuda:1"]
        assert places(device, 1, 1000, 9) == ["cuda:0"]
    assert places("cuda:1", None, 1000, 9) == ["cuda:1"]
    assert places("cpu", 4, 1000, 9) == ["cpu"] * 4
    assert places("mps", None, 1000, 9) == ["mps"]
    for device, count in (("auto", 4), ("cuda", 4), ("cuda:1", 2), ("mps", 2)):
        with pytest.raises(KiyasError, match=rf"{count} workers, but only {1 if count == 2 else 3} GPU"):
            places(device, count, 1000, 9)
    with pytest.raises(KiyasError, match=r"no 'cuda:3': torch sees 3 GPU"):
        places("cuda:3", None, 1000, 9)


def test_workers_of_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0, present=False)
    assert places("auto", None, 1000, 6) == ["cpu"] * 6 and len(places("cpu", None, 1000, 60)) == 8
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert places("cpu", None, memory // 3, 60) == ["cpu"]
    assert places("cpu", 60, 1000, 6) == ["cpu"] * 6


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_gpus_that_are_hidden_are_not_there(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    machine(monkeypatch, 0, visible=hidden)
    assert not uses_gpu("auto") and set(places("auto", None, 1000, 2)) == {"cpu"}
    assert overlooked_gpu("auto") == "", "the user hid it"
    with pytest.raises(KiyasError, match=r"no GPU \(CUDA_VISIBLE_DEVICES"):
        places("cuda", None, 1000, 2)


def test_a_torch_without_cuda_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0, build="None")
    assert not uses_gpu("auto") and set(places("auto", None, 1000, 2)) == {"cpu"}
    assert "computes on CPUs only: the CPU computes. Install a torch with CUDA" in overlooked_gpu("auto")
    with pytest.raises(KiyasError, match=r"no 'cuda': the torch .* CPUs only\n  hint: Install a torch with CUDA"):
        places("cuda", None, 1000, 2)


def test_a_gpu_that_torch_cannot_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0)
    assert set(places("auto", None, 1000, 2)) == {"cpu"}
    assert "torch cannot use it" in overlooked_gpu("auto") and overlooked_gpu("cpu") == ""
    machine(monkeypatch, 1)
    assert overlooked_gpu("auto") == ""


def test_whether_there_is_a_gpu_is_found_out_without_loading_torch() -> None:
    code = "import sys; from kiyas.work.workers import *; places('auto', None, 1, 1); print('torch' in sys.modules)"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).stdout == b"False\n"


def test_a_killed_server_of_workers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers are forked from may be killed before it has forked one: no traceback, nothing left."""

    class Refusing:
        def start(self) -> None:
            raise EOFError("unexpected EOF")

    context = SimpleNamespace(Queue=lambda: None, Process=lambda **_: Refusing())
    monkeypatch.setattr(workers, "warm", lambda: context)
    with bar("test", 2, "units") as progress, pytest.raises(KiyasError, match="killed from outside") as refusal:
        run_parts(work, [[("sleep",)], [("sleep",)]], progress)
    assert "run the same command again" in refusal.value.hint
