"""A process of ours on another machine: it does parts there, and says what happens as a stream of messages.

Nothing here knows how messages travel (cluster.py does). A part works in a thread of its own, on a copy of the run
folder; what it says and writes is bundled and handed on in order.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import queue
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kiyas.judge.types import JudgeError, LostError
from kiyas.judge.version import VERSION
from kiyas.runfolder.copies import Shelf, Watched
from kiyas.runfolder.files import sha256
from kiyas.types import KiyasError
from kiyas.work import deadline
from kiyas.work.engine import InWords, Place
from kiyas.work.progress import Bar, shown_by
from kiyas.work.workers import one_thread

Message = tuple[str, Any]
"""(progress, (count, note)), (said, line), (change, Change), (item, value); the last one: (done, None), (out of time,
None), (mistake, (text, hint)), (unfit, reason), (error, traceback)"""
LAST = ("done", "out of time", "mistake", "unfit", "error")
TOGETHER_S = 0.2
"""messages of so long travel together"""
TOGETHER_BYTES = 2**22
HOMES = "kiyas-node-"
"""folders on nodes begin so"""


class Hand:
    """A process of ours on a node."""

    def __init__(self, session: str, node: str) -> None:
        self.home = Path(tempfile.gettempdir()) / f"{HOMES}{session}" / node
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.shelf = Shelf(self.home / "shelf")

    def keep(self) -> dict[str, Any]:
        """As the keeper: removes what killed runs left on this node; says what is installed."""
        self.lock = (self.home / "lock").open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        for lock in self.home.parent.parent.glob(f"{HOMES}*/*/lock"):
            with contextlib.suppress(OSError), lock.open() as other:
                if lock.parent != self.home:
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its keeper has ended
                    shutil.rmtree(lock.parent, ignore_errors=True)
        return {"kiyas": VERSION, "torch": importlib.util.find_spec("torch") is not None}

    def clear(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.home.parent.rmdir()

    def lacks(self, files: Mapping[str, str]) -> list[str]:
        """Digests of files, by their paths on the machine of the run, that are not the same here."""
        return [digest for path, digest in files.items() if not Path(path).is_file() or sha256(Path(path)) != digest]

    def missing(self, digests: list[str]) -> list[str]:
        return self.shelf.missing(digests)

    def take(self, digest: str, start: int, data: bytes, last: bool) -> None:
        self.shelf.take(digest, start, data, last)

    def lay(self, name: str, files: dict[str, str]) -> str:
        """Puts files of the shelf into a folder; returns it."""
        self.shelf.lay(self.home / name, files, own=False)
        return str(self.home / name)

    def ask(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        return function(*arguments)

    def part(
        self,
        function: Callable[..., None],
        reads: dict[str, str],
        begun: dict[str, str],
        own: tuple[str, ...],
        place: Place,
        arguments: tuple[Any, ...],
        in_words: InWords,
        left_s: float | None,
    ) -> Iterator[list[Message]]:
        """Does a part in a folder of its own; yields how far it is, and what it writes."""
        root = self._folder(reads, begun)
        watched = Watched(root, own)
        watched.begin()

        def work(put: Callable[[Message], None]) -> None:
            looked = time.monotonic()

            def report(count: int, note: str = "") -> None:
                nonlocal looked
                if time.monotonic() - looked > TOGETHER_S:
                    for change in watched.changes():
                        put(("change", change))
                    looked = time.monotonic()
                put(("progress", (count, note)))

            if place.device == "cpu":
                one_thread()
            try:
                with deadline.within(left_s):
                    function(Place(str(root), place.device, place.sharing, place.models), *arguments, report)
            finally:
                for change in watched.changes():
                    put(("change", change))

        yield from _streamed(work, in_words)
        shutil.rmtree(root, ignore_errors=True)

    def items(
        self,
        function: Callable[..., Iterator[Any]],
        reads: dict[str, str],
        arguments: tuple[Any, ...],
        cores: int,
        items: list[Any],
    ) -> Iterator[list[Message]]:
        """Yields what the function yields for each item."""
        root = Path(self.lay("items", reads))

        def work(put: Callable[[Message], None]) -> None:
            with contextlib.closing(function(str(root), *arguments, cores, items)) as found:  # type: ignore[type-var]
                for each in found:
                    put(("item", each))

        yield from _streamed(work, lambda error: None)

    def _folder(self, reads: dict[str, str], begun: dict[str, str]) -> Path:
        root = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self.home))
        self.shelf.lay(root, reads, own=False)
        self.shelf.lay(root, begun, own=True)
        return root


class _Box:
    """Takes what a thread says."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Message] = queue.Queue(64)

    def said(self, line: str) -> None:
        self.queue.put(("said", line))

    def began(self, bar: Bar) -> None:
        """The bar is on the machine of the run."""


def _streamed(work: Callable[[Callable[[Message], None]], None], in_words: InWords) -> Iterator[list[Message]]:
    """Does the work in a thread; yields what it puts, some at a time, and how it ended."""
    box = _Box()

    def run() -> None:
        try:
            with shown_by(box):
                work(box.queue.put)
            box.queue.put(("done", None))
        except deadline.OutOfTimeError:
            box.queue.put(("out of time", None))
        except LostError:
            os._exit(1)  # the judge's process was killed: this one goes, too, and another does it
        except JudgeError as error:  # on the machine of the run the judge can work
            box.queue.put(("unfit", str(error)))
        except BaseException as error:  # noqa: BLE001 (sent to the machine of the run, which raises it)
            told = error if isinstance(error, KiyasError) else in_words(error)
            if told is not None:
                box.queue.put(("mistake", (told.args[0], told.hint)))
            else:
                box.queue.put(("error", traceback.format_exc()))

    threading.Thread(target=run, daemon=True).start()
    ended = False
    while not ended:
        bundle, size, until = [box.queue.get()], 0, time.monotonic() + TOGETHER_S
        while bundle[-1][0] not in LAST and size < TOGETHER_BYTES:
            try:
                bundle.append(box.queue.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
            size += len(bundle[-1][1].data) if bundle[-1][0] == "change" else 0
        ended = bundle[-1][0] in LAST
        yield bundle
