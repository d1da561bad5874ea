"""A Ray cluster as the engine: workers on its nodes do the parts, and what they write arrives in the one run folder.

Theory of operation. Ray starts our processes, *hands*, and carries messages; it decides nothing. On every node one
hand without a core of its own, the *keeper*, says what the node is and takes files; hands that hold a core or a GPU do
parts, one after another, and yield what happens as streams (copies.py). This process only reads streams, writes the
run folder and gives out what is left to whoever is free, so that nodes may come and go: what was under way on a lost
one goes on elsewhere, from what had arrived. Hands end with this process.

Not guaranteed: anything about time on a network (nothing was measured on one), and GPUs on more than one node, which
our tests do not have.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from kiyas.judge.terminal import many
from kiyas.judge.version import VERSION
from kiyas.pipeline.hand import Hand, Message
from kiyas.runfolder.copies import blocks, write
from kiyas.runfolder.files import settle, sha256
from kiyas.runfolder.litter import TEMPORARY
from kiyas.types import KiyasError
from kiyas.work import deadline
from kiyas.work.engine import InWords, Job, Model, Place
from kiyas.work.progress import Bar, tell
from kiyas.work.workers import WorkerError

T = TypeVar("T")
LOOK_S = 2.0
"""between two looks at which nodes there are"""
ANSWER_S = 120.0
"""A node that has not said what it is by then is left out."""
ANSWERS_S = 10.0
"""an address is waited for"""
HEAD_S = 30.0
"""The head may be away for so long. After a minute Ray would end this process, without a word of ours."""
ALONE_S = 300.0
"""without any node, until we give up"""
ATTEMPTS = 5
"""that a part may lose its worker without being any further"""
BATCH, SMALLEST = 256, 16
"""items for each core at once; each batch starts a judge, which takes as long as some dozens of short programs"""
FEWEST = 8
"""problems that a part of its own is worth"""
WINDOW = 8
"""blocks of a file that are under way at once"""
AHEAD = 4
"""bundles of messages that a worker may be ahead of us"""
START_S = 10.0
"""Workers that start are waited for so long before more is given out: then all get something to do."""
BUSY_S = 60.0
"""without any worker that has started, until we say so"""
BUSY = "cluster: no worker has started yet; other jobs may hold the cores (`ray status` shows them)"


@dataclass(eq=False)
class _Node:
    id: str
    name: str
    cores: int
    gpus: int
    memory: int
    keeper: Any
    answer: Any
    """the keeper's, when it comes"""
    until: float
    """how long it is waited for"""
    fit: bool = False
    losses: int = 0
    """workers that it has lost one after another"""
    rests_until: float = 0.0
    """After a loss: it may be gone, without Ray's knowing it yet."""
    unfit_to_judge: str = ""
    """why it does not judge"""
    lacking: dict[str, Any] = field(default_factory=dict)
    """by a model's name: which of its files are not the same there, when the keeper has looked"""
    models: dict[str, str] = field(default_factory=dict)
    """folders of models there, by name"""


@dataclass(eq=False)
class _Worker:
    """A hand that holds cores or a GPU, and what it does."""

    node: _Node
    hand: Any
    sign: Any
    """what is heard of it next: that it has started, or a bundle of messages; None: it is free"""
    job: Any = None
    heard: int = 0
    """units, or items, of the job that it is done with"""
    since: float = field(default_factory=time.monotonic)

    @property
    def is_late(self) -> bool:
        """It should have started by now: something else holds its core."""
        return time.monotonic() > self.since + START_S


class Cluster:
    """The nodes of a Ray cluster that this process has joined."""

    def __init__(self, ray: Any) -> None:
        self.ray, self.session = ray, uuid.uuid4().hex[:12]
        self.nodes: dict[str, _Node] = {}
        self._refused: set[str] = set()
        self._too_small: set[str] = set()
        self._looked, self._head = 0.0, ray.get_runtime_context().gcs_address
        self._head_was_there = time.monotonic()
        self._model_bytes, self._running, self._out_of_time, self._left = 1, False, False, False
        self._placed: list[dict[str, Any]] = []
        self._look()
        while any(node.answer is not None for node in self.nodes.values()):
            time.sleep(0.05)
            self._look()
        if not self._fit:
            raise KiyasError(
                "no node of this cluster can work for this run",
                f"install kiyas[train,ray] {VERSION} on its nodes (see docs/clusters.md)",
            )
        cores, gpus = (sum(counts) for counts in zip(*((each.cores, each.gpus) for each in self._fit), strict=True))
        names = ", ".join(node.name for node in self._fit)
        self._running = True
        there = f"{many(len(self._fit), 'node')} ({names}), {many(cores, 'core')}, {many(gpus, 'GPU')}"
        tell(f"cluster at {self._head}: {there}")

    # -- as an engine -----------------------------------------------------------------------------------------

    def gpus(self, device: str) -> list[str]:
        found = ["cuda:0"] * sum(node.gpus for node in self._fit) if device != "cpu" else []
        if not found and device not in ("auto", "cpu"):
            raise KiyasError(
                f"training.device: no node of this cluster has {device!r}", "training.device=auto takes what there is"
            )
        return found

    def places(self, device: str, workers: int | None, model_bytes: int, units: int) -> list[str]:
        self._model_bytes = max(1, model_bytes)
        kind = self._kind(device)
        found = [kind for node in self._fit for _ in range(self._room(node, kind))]
        for node in self._fit:
            if kind == "cpu" and not self._room(node, kind) and node.id not in self._too_small:
                self._too_small.add(node.id)
                tell(f"cluster: {node.name} only judges: a worker takes {2 * model_bytes / 1e9:.1f} GB of memory")
        if not found:
            raise KiyasError(
                f"no node of this cluster has room for a worker, which takes {2 * model_bytes / 1e9:.1f} GB of memory "
                "and a core",
                "add nodes with more memory, or take a smaller base",
            )
        return found[: max(1, units)]

    def cut(self, places: int, workers: int | None, units: int, problems: int) -> tuple[int, int]:
        if workers is not None:
            return min(workers, units), 1
        if problems == 1:  # as on one machine, where the same number of workers gives the same bits
            return min(places, units), 1
        groups = min(units, 4 * places)
        return groups, max(1, min(-(-2 * places // groups), problems // FEWEST))

    def asked(self, function: Callable[..., T], device: str, *arguments: Any) -> list[T]:
        kind = self._kind(device)
        chosen = [self._worker(node, kind) for node in self._fit if self._room(node, kind)]
        try:
            found, late = list[T](), [each.hand.ask.remote(function, (*arguments, kind)) for each in chosen]
            quiet = time.monotonic() + BUSY_S
            while late:
                ready = self._ready(late)
                late = [each for each in late if each not in ready]
                for each in ready:
                    with contextlib.suppress(self.ray.exceptions.RayActorError):  # a lost node is not asked
                        found.append(self._answer(each))
                if time.monotonic() > quiet:
                    quiet = math.inf
                    tell(BUSY)
                if late and _is_over():
                    raise deadline.OutOfTimeError
        finally:
            self._let_go(chosen)
        if not found:
            raise KiyasError("all nodes were lost while they were asked what they compute in", "run the same command")
        return found

    def _ready(self, references: list[Any]) -> list[Any]:
        """Those that there is something to get of, after a while perhaps none."""
        try:
            self.ray.wait(references, num_returns=1, timeout=LOOK_S)
            found: list[Any] = self.ray.wait(references, num_returns=len(references), timeout=0)[0]
        except OSError as error:
            raise self._no_head(error) from error
        return found

    def _no_head(self, error: OSError) -> KiyasError:
        return KiyasError(
            f"the head of the cluster, {self._head}, or the node of this machine does not answer any more "
            f"({error.strerror or error})",
            "start it again, and run the same command (with --ray, or without it on this machine)",
        )

    def _answer(self, reference: Any) -> Any:
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, KiyasError):
                raise error.cause from None
            raise WorkerError(str(error)) from error

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
        waiting, lost, furthest = deque(jobs), Counter[int](), Counter[int]()
        kind, models = places[0], find_models()
        self._compare(models)

        def start(worker: _Worker) -> None:
            job = worker.job = waiting.popleft()
            node, worker.heard = worker.node, 0
            self._compare(models)  # this node may be new
            for name, model in models.items():
                self._bring_model(node, name, model)
            for path in (path for pattern in job.own for path in folder.glob(pattern) if path.suffix == ".jsonl"):
                settle(path)  # what a lost worker left of a row is cut off here, not there
            files = [self._bring(node, folder, patterns) for patterns in (job.reads, job.own)]
            place = Place("", kind, self._room(node, kind) if kind == "cpu" else 1, tuple(node.models.items()))
            worker.sign = _streaming(worker.hand.part).remote(
                function, *files, job.own, place, job.arguments, in_words, deadline.left_s()
            )
            self._placed.append({"part": job.number, "node": node.name, "device": kind, "memory_bytes": node.memory})

        def hear(worker: _Worker, kind: str, value: Any) -> None:
            if kind == "change":
                write(folder, value)
            else:
                worker.heard += value[0]
                bar.update(*value)
                deadline.is_near()  # something was done: no more need be

        def lose(worker: _Worker) -> None:
            number = worker.job.number
            lost[number] = 1 if worker.heard > furthest[number] else lost[number] + 1
            furthest[number] = max(furthest[number], worker.heard)
            if lost[number] == ATTEMPTS:
                raise _kills_workers(f"part {number}", worker.node)
            bar.update(-worker.heard)
            waiting.appendleft(worker.job)

        for _ in self._drive(lambda node: self._room(node, kind), kind, waiting, start, hear, lose):
            pass

    def each(
        self,
        function: Callable[..., Iterator[Any]],
        folder: Path,
        reads: tuple[str, ...],
        arguments: tuple[Any, ...],
        items: Iterable[Any],
    ) -> Iterator[Any]:
        waiting, lost, done = deque(items), Counter[Any](), Counter[str]()

        def start(worker: _Worker) -> None:
            node = worker.node
            nodes = max(1, len(self._fit))
            fewest = min(SMALLEST * node.cores, -(-len(waiting) // nodes))
            share = max(fewest, min(BATCH * node.cores, len(waiting) // (2 * nodes)))
            worker.job = [waiting.popleft() for _ in range(min(len(waiting), share))]
            worker.heard = 0
            files = self._bring(node, folder, reads)
            worker.sign = _streaming(worker.hand.items).remote(function, files, arguments, node.cores, worker.job)

        def hear(worker: _Worker, kind: str, value: Any) -> None:
            worker.heard += 1
            done[worker.node.name] += 1

        def lose(worker: _Worker) -> None:
            left = worker.job[worker.heard :]
            waiting.extendleft(reversed(left))
            if not left or worker.node.unfit_to_judge:
                return
            lost[left[0]] += 1
            if lost[left[0]] == ATTEMPTS:
                raise _kills_workers("one program", worker.node)

        yield from self._drive(lambda node: 0 if node.unfit_to_judge else 1, None, waiting, start, hear, lose)
        self._placed += [{"node": name, "programs": count} for name, count in sorted(done.items())]

    def placed(self) -> list[dict[str, Any]]:
        found, self._placed = self._placed, []
        return found

    # -- nodes and workers ------------------------------------------------------------------------------------

    @property
    def _fit(self) -> list[_Node]:
        return [node for node in self.nodes.values() if node.fit]

    def _kind(self, device: str) -> str:
        return "cuda:0" if self.gpus(device) else "cpu"

    def _room(self, node: _Node, kind: str) -> int:
        """How many workers a node takes: one a GPU, or one a core while memory holds two copies of the base each."""
        return node.gpus if kind != "cpu" else min(node.cores, node.memory // (2 * self._model_bytes))

    def _look(self) -> None:
        """Which nodes have come and gone, and what new ones say they are."""
        if time.monotonic() - self._looked > LOOK_S and self._head_is_there():
            self._looked = time.monotonic()
            alive = {each["NodeID"]: each for each in self.ray.nodes() if each["Alive"]}
            for id in [id for id in self.nodes if id not in alive]:
                node = self.nodes.pop(id)
                if node.fit:
                    tell(f"cluster: {node.name} is gone")
            for id in [id for id in alive if id not in self.nodes and id not in self._refused]:
                self._meet(alive[id])
        for node in [node for node in self.nodes.values() if node.answer is not None]:
            if self.ray.wait([node.answer], timeout=0)[0]:
                self._judge_fit(node)
            elif time.monotonic() > node.until:
                self._refuse(node, f"it did not start a process of ours within {ANSWER_S:.0f} s")

    def _head_is_there(self) -> bool:
        """Raises KiyasError where it does not come back."""
        try:
            _knock(self._head, LOOK_S)
        except OSError as error:
            if time.monotonic() < self._head_was_there + HEAD_S:
                return False
            raise self._no_head(error) from error
        self._head_was_there = time.monotonic()
        return True

    def _meet(self, found: Mapping[str, Any]) -> None:
        has, id, name = Counter(found["Resources"]), found["NodeID"], found["NodeName"] or found["NodeManagerAddress"]
        if any(node.name == name for node in self.nodes.values()):
            name = f"{name}-{id[:6]}"
        keeper = self._hand(id, num_cpus=0)
        self.nodes[id] = _Node(
            id,
            name,
            cores=int(has["CPU"]),
            gpus=int(has["GPU"]),
            memory=int(has["memory"]),
            keeper=keeper,
            answer=keeper.keep.remote(),
            until=time.monotonic() + ANSWER_S,
        )

    def _judge_fit(self, node: _Node) -> None:
        try:
            facts = self.ray.get(node.answer)
        except self.ray.exceptions.RayError as error:
            self._refuse(node, f"Kıyas does not start there: {str(error).strip().splitlines()[-1]}")
            return
        node.answer = None
        if facts["kiyas"] != VERSION:
            self._refuse(node, f"it has Kıyas {facts['kiyas']}, and this is {VERSION}")
        elif not facts["torch"]:
            self._refuse(node, "it has no torch (install kiyas[train,ray] there)")
        elif node.cores < 1:
            self._refuse(node, "it gives no core")
        else:
            node.fit = True
            if self._running:
                tell(f"cluster: {node.name} joined, with {many(node.cores, 'core')} and {many(node.gpus, 'GPU')}")

    def _refuse(self, node: _Node, why: str) -> None:
        tell(f"cluster: {node.name} is left out: {why}")
        self._refused.add(node.id)
        self.ray.kill(self.nodes.pop(node.id).keeper)

    def _hand(self, node: str, **holds: float) -> Any:
        here = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        options = {"scheduling_strategy": here, "max_restarts": 0, "max_concurrency": 1, **holds}
        return self.ray.remote(Hand).options(**options).remote(self.session, node)

    def _worker(self, node: _Node, kind: str | None) -> _Worker:
        """On a GPU, on a core, or (None) on all cores of a node."""
        holds: dict[str, float] = {"num_cpus": 1, "num_gpus": 1}
        if kind is None:
            holds = {"num_cpus": node.cores}
        elif kind == "cpu":
            holds = {"num_cpus": 1, "memory": min(2 * self._model_bytes, node.memory)}
        hand = self._hand(node.id, **holds)
        return _Worker(node, hand, hand.missing.remote([]))

    def _let_go(self, workers: Iterable[_Worker]) -> None:
        for each in () if self._left else workers:  # they have ended, and Ray would start a cluster to kill them
            with contextlib.suppress(self.ray.exceptions.RayError, OSError):
                self.ray.kill(each.hand)

    # -- files ------------------------------------------------------------------------------------------------

    def _bring(self, node: _Node, folder: Path, patterns: Iterable[str]) -> dict[str, str]:
        """Puts files of the run folder on a node's shelf; returns their digests by name."""
        found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
        files = {path: sha256(path) for path in sorted(found) if not TEMPORARY.fullmatch(path.name)}
        self._send(node, files)
        return {path.relative_to(folder).as_posix(): digest for path, digest in files.items()}

    def _compare(self, models: Mapping[str, Model]) -> None:
        """Has all nodes look at the same time whether they have these models."""
        for node in self._fit:
            for name, model in models.items():
                if name not in node.lacking:
                    files = {str(model.folder / each): digest for each, digest in model.files.items()}
                    node.lacking[name] = node.keeper.lacks.remote(files)

    def _bring_model(self, node: _Node, name: str, model: Model) -> None:
        """Finds out where a model lies on a node: in the same folder, or on its shelf, where it is put."""
        if name in node.models:
            return
        files = {model.folder / each: digest for each, digest in model.files.items()}
        if self._kept(node, node.lacking[name]):
            tell(f"cluster: {node.name} does not have {name}: it is sent there")
            self._send(node, files)
            where = self._kept(node, node.keeper.lay.remote(f"model-{len(node.models)}", dict(model.files)))
        else:
            where = str(model.folder)
        node.models[name] = where

    def _send(self, node: _Node, files: Mapping[Path, str]) -> None:
        path_of = {digest: path for path, digest in files.items()}
        for digest in self._kept(node, node.keeper.missing.remote(list(path_of))):
            under_way: deque[Any] = deque()
            for block in blocks(path_of[digest]):
                under_way.append(node.keeper.take.remote(digest, *block))
                if len(under_way) > WINDOW:
                    self._kept(node, under_way.popleft())
            self._kept(node, list(under_way))

    def _kept(self, node: _Node, answer: Any) -> Any:
        """What a keeper answers. A node that lost its keeper is met anew."""
        try:
            return self.ray.get(answer)
        except self.ray.exceptions.RayActorError:
            self.nodes.pop(node.id, None)
            self.ray.kill(node.keeper)  # it may only be out of reach, and keeps another from its folder
            raise

    # -- work -------------------------------------------------------------------------------------------------

    def _drive(
        self,
        room: Callable[[_Node], int],
        kind: str | None,
        waiting: deque[Any],
        start: Callable[[_Worker], None],
        hear: Callable[[_Worker, str, Any], None],
        lose: Callable[[_Worker], None],
    ) -> Iterator[Any]:
        """Gives out what is waiting to whoever is free until all is done; yields items as they come.

        `start` takes something off `waiting`; `lose` puts back what a lost worker had not finished.
        """
        workers: list[_Worker] = []
        quiet, alone = time.monotonic() + BUSY_S, None
        try:
            while True:
                self._look()
                self._out_of_time = self._out_of_time or _is_over()
                for each in [each for each in workers if each.job is None]:
                    if not waiting or self.nodes.get(each.node.id) is not each.node:
                        self._end(workers, each)
                idle = [each for each in workers if each.job is None]
                if not any(each.sign is not None and not each.is_late for each in idle):
                    for worker in [each for each in idle if each.sign is None]:
                        if waiting and not self._out_of_time:
                            self._or_lost(workers, worker, start, lose)
                promised = sum(each.job is None and (each.sign is None or not each.is_late) for each in workers)
                if not self._out_of_time:
                    self._grow(workers, room, kind, len(waiting) - promised)
                if any(each.job is not None for each in workers):
                    quiet = math.inf
                elif self._out_of_time:
                    raise deadline.OutOfTimeError
                elif not waiting:
                    return
                elif time.monotonic() > quiet:
                    quiet = math.inf
                    tell(BUSY)
                signs = {each.sign: each for each in workers if each.sign is not None}
                if not signs:
                    alone = alone or time.monotonic() + ALONE_S
                    self._nobody(room, alone)
                    time.sleep(LOOK_S / 4)
                    continue
                alone = None
                for sign in self._ready(list(signs)):
                    yield from self._listen(workers, signs[sign], hear, lose)
        finally:
            self._let_go(workers)

    def _grow(self, workers: list[_Worker], room: Callable[[_Node], int], kind: str | None, wanted: int) -> None:
        """Begins so many workers, spread over the nodes."""
        awake = [node for node in self._fit if time.monotonic() > node.rests_until]
        free = {node.id: room(node) - sum(each.node is node for each in workers) for node in awake}
        for _ in range(min(wanted, sum(max(0, each) for each in free.values()))):
            id = max(free, key=free.__getitem__)
            free[id] -= 1
            workers.append(self._worker(self.nodes[id], kind))

    def _end(self, workers: list[_Worker], worker: _Worker) -> None:
        workers.remove(worker)
        self._let_go([worker])

    def _nobody(self, room: Callable[[_Node], int], until: float) -> None:
        reasons = [f"{node.name}: {node.unfit_to_judge}" for node in self._fit if node.unfit_to_judge]
        if reasons and not any(room(node) for node in self._fit):
            raise KiyasError(
                f"no node of this cluster can judge as this run does: {reasons[0]}",
                "the same command without --ray judges on this machine; or choose another judge.isolation",
            )
        if time.monotonic() > until:
            raise KiyasError(
                f"no node has been there for {ALONE_S / 60:.0f} minutes",
                "start nodes, and run the same command again (with --ray, or without it on this machine)",
            )

    def _or_lost(
        self,
        workers: list[_Worker],
        worker: _Worker,
        act: Callable[[_Worker], None],
        lose: Callable[[_Worker], None],
    ) -> None:
        try:
            act(worker)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OSError):
                raise KiyasError(
                    f"{worker.node.name}: {error.cause}", "workers keep their files there in $TMPDIR, else in /tmp"
                ) from error
            raise WorkerError(str(error)) from error
        except self.ray.exceptions.RayError:
            node = worker.node
            node.losses += 1
            node.rests_until = time.monotonic() + min(60.0, 2.0**node.losses)
            self._end(workers, worker)
            if worker.job is not None:
                tell(f"cluster: a worker on {node.name} was lost; what it had not finished is done again")
                lose(worker)
            elif node.losses >= 2 * ATTEMPTS and node.id in self.nodes:
                self._refuse(node, "its workers do not start")

    def _listen(
        self,
        workers: list[_Worker],
        worker: _Worker,
        hear: Callable[[_Worker, str, Any], None],
        lose: Callable[[_Worker], None],
    ) -> Iterator[Any]:
        bundle: list[Message] = []

        def take(worker: _Worker) -> None:
            if worker.job is None:
                self.ray.get(worker.sign)
                worker.sign = None
            else:
                bundle.extend(self.ray.get(next(worker.sign)))

        self._or_lost(workers, worker, take, lose)
        for kind, value in bundle:
            if kind == "item":
                hear(worker, kind, value)
                yield value
            elif kind == "said":
                tell(f"{worker.node.name}: {value}")
            elif kind in ("done", "out of time"):
                worker.node.losses = 0
                worker.sign = worker.job = None
                self._out_of_time = self._out_of_time or kind == "out of time"
            elif kind == "mistake":
                raise KiyasError(f"{worker.node.name}: {value[0]}", value[1])
            elif kind == "unfit":
                worker.node.unfit_to_judge = value
                tell(f"cluster: {worker.node.name} does not judge: {value.splitlines()[0]}")
                self._end(workers, worker)
                lose(worker)
            elif kind == "error":
                raise WorkerError(f"on {worker.node.name}:\n{value}")
            else:
                hear(worker, kind, value)

    def leave(self) -> None:
        """Takes away what lies on the nodes."""
        self._left = True
        with contextlib.suppress(self.ray.exceptions.RayError, OSError):  # what is gone cannot be cleared
            left = [node.keeper.clear.remote() for node in self._fit]
            self.ray.wait(left, num_returns=len(left), timeout=5)


def _is_over() -> bool:
    """May nothing more be begun, or is even its one unit waited for too long?"""
    left = deadline.left_s()
    try:
        deadline.refuse_more()
    except deadline.OutOfTimeError:
        return True
    return left is not None and left < -ANSWER_S


def _streaming(method: Any) -> Any:
    return method.options(num_returns="streaming", _generator_backpressure_num_objects=AHEAD)


def _kills_workers(what: str, node: _Node) -> KiyasError:
    return KiyasError(
        f"{what} lost its worker {ATTEMPTS} times without being any further, last on {node.name}",
        "often a node runs out of memory: take a smaller base, or nodes with more",
    )


_TRIES = "RAY_gcs_server_port_wait_time_s"
"""Ray tries twenty times, for four minutes, where it is not set."""


def _knock(address: str, seconds: float) -> None:
    """Raises OSError where nobody listens at a host and port."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), seconds).close()


def _refuse_silent(address: str) -> None:
    """Raises KiyasError for what is not a host and port, or where nobody answers: Ray would try for minutes."""
    if "://" in address:
        raise _no_cluster(address, "Ray Client is not supported: run the command on a machine of the cluster")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise _no_cluster(address, "it is neither auto nor HOST:PORT")
    try:
        _knock(address, ANSWERS_S)
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, getattr(error, "strerror", None) or str(error)) from error


def _no_cluster(address: str, why: str) -> KiyasError:
    return KiyasError(
        f"no Ray cluster can be joined at {address!r}: {why}",
        "`ray status` on a node of it says whether it runs, and its address; see docs/clusters.md",
    )


@contextlib.contextmanager
def joined(address: str) -> Iterator[Cluster]:
    """The cluster at an address (`auto`: the one that this machine is a node of), until the block ends.

    Raises KiyasError where Ray is not installed, or no cluster answers there.
    """
    try:
        import ray
        import ray.exceptions
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise KiyasError(
            f"--ray needs Ray, which cannot be imported here ({error})", "pip install 'kiyas[ray]'"
        ) from error
    if ray.is_initialized():
        raise KiyasError(
            "this process has joined a Ray cluster already, with work of its own",
            "call ray.shutdown() before, or run the study in another process",
        )
    if address == "auto":
        address = os.getenv("RAY_ADDRESS") or address
    if address != "auto":
        _refuse_silent(address)
    ended = signal.getsignal(signal.SIGTERM)
    tries = os.environ.get(_TRIES)
    os.environ[_TRIES] = "2"
    try:
        ray.init(address=address, namespace="kiyas", log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _no_cluster(address, " ".join(str(error).split())) from error
    finally:
        os.environ.pop(_TRIES)
        if tries is not None:
            os.environ[_TRIES] = tries
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ended)  # Ray puts its own there
    try:
        cluster = Cluster(ray)
        try:
            yield cluster
        finally:
            cluster.leave()
    finally:
        ray.shutdown()
