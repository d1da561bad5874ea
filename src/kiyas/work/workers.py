"""Runs the parts of a stage: one in this process, several in one-thread processes of their own.

On a CPU two one-thread processes beat one two-thread process for small models; on a GPU there is one part. A worker
dies with its parent. Its errors are raised as the parent's own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from kiyas.judge.pool import usable_cores
from kiyas.types import KiyasError
from kiyas.work.progress import Bar

OnProgress = Callable[[int, str], None]
"""Called with (units done since the last call, a note)."""


class WorkerError(RuntimeError):
    """A worker failed by our own fault; the text is its traceback."""


def uses_gpu(device: str) -> bool:
    """Whether `training.device` means a GPU, found out without loading torch."""
    if device != "auto":
        return device != "cpu"
    return any(Path(path).exists() for path in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def default_workers(device: str, model_bytes: int, units: int) -> int:
    """One part on a GPU; on a CPU one per core while the copies of the base fit into a quarter of memory."""
    if uses_gpu(device):
        return 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fitting = memory // 4 // max(1, 2 * model_bytes)
    return max(1, min(usable_cores(), units, fitting))


def run_parts(
    function: Callable[..., None], parts: list[tuple[Any, ...]], bar: Bar, workers: int | None = None
) -> None:
    """Calls `function(*part, report)` for every part, at the same time. Raises the first failure after stopping all.

    With one worker the parts run one after the other, in this process.
    `function` must be importable by name (it is sent to other processes).
    """
    if len(parts) == 1 or workers == 1:
        for part in parts:
            function(*part, bar.update)
        return
    context = warm()
    messages: Any = context.Queue()
    processes = [
        context.Process(target=_work, args=(messages, number, function, part), daemon=True)
        for number, part in enumerate(parts)
    ]
    for process in processes:
        process.start()
    try:
        _listen(processes, messages, bar)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()


def _listen(processes: list[Any], messages: Any, bar: Bar) -> None:
    running = set(range(len(processes)))
    while running:
        try:
            number, kind, value = messages.get(timeout=0.5)
        except queue.Empty:
            for number in running:
                code = processes[number].exitcode
                if code is not None and messages.empty():
                    reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                    raise KiyasError(
                        f"a worker process was killed from outside ({reason})",
                        "often the system ran out of memory: try training.workers=1, then run the same command again",
                    ) from None
            continue
        if kind == "progress":
            bar.update(*value)
        elif kind == "done":
            running.discard(number)
        elif kind == "mistake":
            raise KiyasError(value[0], value[1])
        else:
            raise WorkerError(value)


def warm() -> Any:
    """Starts the process that workers are forked from, so that it loads torch while this one does other things.

    It has loaded torch, but run nothing: forking it is safe, and every later worker starts at once.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "kiyas.train.stage", "kiyas.generate.stage"])
    with _one_thread():
        forkserver.ensure_running()
    return context


def _work(messages: Any, number: int, function: Callable[..., None], part: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent asks us to stop
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        import torch

        torch.set_num_threads(1)
        function(*part, lambda count, note="": messages.put((number, "progress", (count, note))))
        messages.put((number, "done", None))
    except KiyasError as error:
        messages.put((number, "mistake", (error.args[0], error.hint)))
    except BaseException:  # noqa: BLE001 (sent to the parent, which raises it)
        messages.put((number, "error", traceback.format_exc()))


def _follow_parent() -> None:
    """Ends this worker when the process that asked for it is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Children started inside use one thread each, whatever library they load."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
