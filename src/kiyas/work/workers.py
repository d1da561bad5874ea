"""Runs the parts of a stage, each on its device: in this process, or in one-thread processes of their own.

On a CPU two one-thread processes beat one two-thread process for small models; a GPU has one worker, so that no two
plan with the same memory. A worker dies with its parent. Its errors are raised as the parent's own.

`HERE` is this machine as an engine (engine.py); pipeline/cluster.py is many machines.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import multiprocessing
import os
import queue
import re
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from kiyas.judge.pool import usable_cores
from kiyas.judge.terminal import only_printable
from kiyas.types import KiyasError
from kiyas.work import deadline
from kiyas.work.engine import Engine, InWords, Job, Model, Place
from kiyas.work.progress import Bar

T = TypeVar("T")


def our_fault(error: BaseException) -> None:
    """Puts no error in words."""


class WorkerError(RuntimeError):
    """A worker failed by our own fault; the text is its traceback."""


# -- which devices there are ----------------------------------------------------------------------------------


def uses_gpu(device: str) -> bool:
    """Whether `training.device` means a GPU, found out without loading torch."""
    if device != "auto":
        return device != "cpu"
    return _has_gpu() and _torch_computes_on_gpus()


def gpus(device: str) -> list[str]:
    """The GPUs that `training.device` means, by torch's names; none: the CPU computes.

    Of the machine's GPUs torch sees those that CUDA_VISIBLE_DEVICES names. Raises KiyasError for one that is not there.
    """
    if not uses_gpu(device):
        return []
    if device == "mps":
        return [device]
    import torch

    # The driver is asked for their number; none is taken into use.
    visible = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    found = visible if device in ("auto", "cuda") else [each for each in visible if each == device]
    if not found and device != "auto":
        raise KiyasError(
            f"training.device: this machine has no {device!r}: {_missing(len(visible))}",
            _REMEDY if not _torch_computes_on_gpus() else "training.device=auto takes what there is",
        )
    return found


def overlooked_gpu(device: str) -> str:
    """Why the CPU computes although this machine has a GPU and `training.device` is auto; "": it is not so."""
    if device != "auto" or not _has_gpu():
        return ""
    if not _torch_computes_on_gpus():
        return f"this machine has a GPU, but {_NO_CUDA}: the CPU computes. {_REMEDY}"
    if not gpus(device):
        return "this machine has a GPU, but torch cannot use it (nvidia-smi says more): the CPU computes"
    return ""


def places(device: str, workers: int | None, model_bytes: int, units: int) -> list[str]:
    """The device of each worker: every GPU once, or the CPU as often as cores and memory allow.

    `workers`: as many as that instead (`training.workers`). Raises KiyasError for more workers than GPUs.
    """
    found = gpus(device)
    if not found:
        count = workers if workers is not None else _cpu_workers(model_bytes)
        return ["cpu"] * max(1, min(count, units))
    if workers is not None and workers > len(found):
        raise KiyasError(
            f"training.workers: {workers} workers, but only {len(found)} GPU to use: two on one GPU would both plan "
            "with all of its memory",
            f"training.workers={len(found)} or leave it out",
        )
    return found[: max(1, min(workers or len(found), units))]


_NO_CUDA = "the torch that is installed computes on CPUs only"
_REMEDY = "Install a torch with CUDA (pytorch.org has the command for your driver)"


def _has_gpu() -> bool:
    if os.getenv("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    return any(Path(path).exists() for path in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def _torch_computes_on_gpus() -> bool:
    """Read from torch's own version file: loading torch takes a second."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    return re.search(r"^(cuda|hip)\b[^=\n]*= *['\"]", text, re.M) is not None


def _missing(visible: int) -> str:
    if not _torch_computes_on_gpus():
        return _NO_CUDA
    named = os.getenv("CUDA_VISIBLE_DEVICES")
    limited = f" (CUDA_VISIBLE_DEVICES is {named!r})" if named is not None else ""
    return f"torch sees {visible or 'no'} GPU{limited}"


def _cpu_workers(model_bytes: int) -> int:
    """One per core while the copies of the base fit into a quarter of memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(usable_cores(), memory // 4 // max(1, 2 * model_bytes)))


# -- running ------------------------------------------------------------------------------------------------------


def run_parts(
    function: Callable[..., None],
    lanes: Sequence[Sequence[tuple[Any, ...]]],
    bar: Bar,
    in_words: InWords = our_fault,
) -> None:
    """Calls `function(*part, report)` for every part: those of a lane one after another, the lanes at the same time.

    Raises the first failure after stopping all; OutOfTimeError where all have ended, and some for want of time. One
    lane runs in this process; several have a process each, to which `function` and `in_words` are sent by name.
    """
    if len(lanes) <= 1:
        try:
            for part in (part for lane in lanes for part in lane):
                deadline.refuse_more()
                function(*part, bar.update)
        except Exception as error:
            told = in_words(error)
            if told is None:
                raise
            raise told from error
        return
    context = warm()
    messages: Any = context.Queue()
    processes = [
        context.Process(target=_work, args=(messages, number, function, lane, in_words, deadline.left_s()), daemon=True)
        for number, lane in enumerate(lanes)
    ]
    started = []
    try:
        for process in processes:
            try:
                with _without_the_callers_script():
                    process.start()
            except (EOFError, OSError) as error:
                raise KiyasError(
                    f"a worker process cannot be started: what starts them was killed from outside ({error})",
                    "often the system ran out of memory: try training.workers=1, then run the same command again",
                ) from None
            started.append(process)
        _listen(processes, messages, bar)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.join(5)
            if process.is_alive():
                process.kill()


def spread(
    function: Callable[[Any, list[Any]], T], shared: Any, batches: Iterable[list[Any]], many: bool
) -> Iterator[T]:
    """`function(shared, batch)` of every batch, in order; of `many`, in a process for each core.

    Function and arguments are sent to the processes; few batches are under way at a time.
    """
    cores = usable_cores()
    if not many or cores < 2:
        yield from (function(shared, batch) for batch in batches)
        return
    waiting: deque[Future[T]] = deque()
    pool = ProcessPoolExecutor(cores, warm(), _take_shared, (function, shared))
    try:
        for batch in batches:
            with _lost_worker(), _without_the_callers_script():
                waiting.append(pool.submit(_with_shared, batch))
            if len(waiting) > 2 * cores:
                with _lost_worker():
                    first = waiting.popleft().result()
                yield first
        while waiting:
            with _lost_worker():
                first = waiting.popleft().result()
            yield first
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _without_the_callers_script() -> Iterator[None]:
    """A process that is started inside does not run the script that called us, which need not be guarded then.

    `multiprocessing` runs it for the functions in it; all of ours are in this package.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextlib.contextmanager
def _lost_worker() -> Iterator[None]:
    try:
        yield
    except (BrokenProcessPool, BrokenPipeError):
        raise KiyasError(
            "a worker process was killed from outside", "often the system ran out of memory: free some, and try again"
        ) from None


_shared: tuple[Callable[[Any, list[Any]], Any], Any]


def _take_shared(function: Callable[[Any, list[Any]], Any], shared: Any) -> None:
    global _shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    gc.freeze()
    gc.set_threshold(50_000)  # trees of programs come and go
    _shared = function, shared


def _with_shared(batch: list[Any]) -> Any:
    function, shared = _shared
    return function(shared, batch)


def _listen(processes: list[Any], messages: Any, bar: Bar) -> None:
    running, out_of_time = set(range(len(processes))), False
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
        elif kind in ("done", "out of time"):
            running.discard(number)
            out_of_time = out_of_time or kind == "out of time"
        elif kind == "mistake":
            raise KiyasError(value[0], value[1])
        else:
            raise WorkerError(value)
    if out_of_time:
        raise deadline.OutOfTimeError


def warm() -> Any:
    """Starts the process that workers are forked from, so that it loads torch while this one does other things.

    It has loaded torch, but run nothing: forking it is safe, and every later worker starts at once.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "kiyas.train.stage", "kiyas.generate.stage"])
    resource_tracker.ensure_running()  # it lets Ctrl-C through again
    # Ctrl-C is for us: we stop the workers. What is blocked here stays so in all of them, from their first moment on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _one_thread():
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _work(
    messages: Any,
    number: int,
    function: Callable[..., None],
    lane: Sequence[tuple[Any, ...]],
    in_words: InWords,
    left_s: float | None,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent asks us to stop
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        one_thread()
        with only_printable(), deadline.within(left_s):
            for part in lane:
                deadline.refuse_more()
                function(*part, lambda count, note="": messages.put((number, "progress", (count, note))))
        messages.put((number, "done", None))
    except deadline.OutOfTimeError:
        messages.put((number, "out of time", None))
    except BaseException as error:  # noqa: BLE001 (sent to the parent, which raises it)
        told = error if isinstance(error, KiyasError) else in_words(error)
        if told is not None:
            messages.put((number, "mistake", (told.args[0], told.hint)))
        else:
            messages.put((number, "error", traceback.format_exc()))


def one_thread() -> None:
    """From now on torch computes with one thread in this process."""
    import torch

    torch.set_num_threads(1)


def _follow_parent() -> None:
    """Ends this worker when the process that asked for it is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Children started inside use one thread each, whatever library they load, and take no GPU into use by asking
    whether there is one: a process that has cannot be forked."""
    # The last: a process that is started with -c must not import what lies in the working folder.
    names = (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PYTORCH_NVML_BASED_CUDA_CHECK",
        "PYTHONSAFEPATH",
    )
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


# -- as an engine ----------------------------------------------------------------------------------------------


class Here:
    """This machine: parts are shared out among its devices beforehand."""

    def gpus(self, device: str) -> list[str]:
        return gpus(device)

    def places(self, device: str, workers: int | None, model_bytes: int, units: int) -> list[str]:
        return places(device, workers, model_bytes, units)

    def cut(self, places: int, workers: int | None, units: int, problems: int) -> tuple[int, int]:
        return places, 1

    def asked(self, function: Callable[..., T], device: str, *arguments: Any) -> list[T]:
        return [function(*arguments, each) for each in gpus(device) or ["cpu"]]

    def run(
        self,
        function: Callable[..., None],
        folder: Path,
        jobs: Sequence[Job],
        places: Sequence[str],
        find_models: Callable[[], Mapping[str, Model]],
        bar: Bar,
        in_words: InWords,
    ) -> None:
        lanes: list[list[tuple[Any, ...]]] = [[] for _ in places]
        for job in jobs:
            device = places[job.lane % len(places)]
            lanes[job.lane % len(places)].append((Place(str(folder), device, places.count(device)), *job.arguments))
        run_parts(function, [lane for lane in lanes if lane], bar, in_words)

    def each(
        self,
        function: Callable[..., Iterator[T]],
        folder: Path,
        reads: tuple[str, ...],
        arguments: tuple[Any, ...],
        items: Iterable[Any],
    ) -> Iterator[T]:
        return function(str(folder), *arguments, None, items)

    def placed(self) -> list[dict[str, Any]]:
        return []


HERE: Engine = Here()
