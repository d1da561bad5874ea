"""A Ray cluster on this machine: every node is `ray start` as a process of its own, and can be killed."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

RAY = str(Path(sys.executable).with_name("ray"))
STORE = 80_000_000
"""bytes of a node's object store; Ray takes no less than 75 MiB"""


class Nodes:
    """Starts with a head that has no core. Every other node is started by name."""

    def __init__(self) -> None:
        # Ray's sockets lie there, and their paths must be short.
        self.folder = tempfile.mkdtemp(prefix="kr")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        port = self.address.rpartition(":")[2]
        self._start("head", 0, ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self.folder}"])

    def add(self, name: str, cores: int = 1, wrapped: Sequence[str] = (), **environment: str) -> None:
        """`wrapped`: a command that runs the node's."""
        self._start(name, cores, [f"--address={self.address}"], wrapped, environment)

    def _start(
        self,
        name: str,
        cores: int,
        more: list[str],
        wrapped: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        command = [*wrapped, RAY, "start", "--block", f"--num-cpus={cores}", f"--object-store-memory={STORE}"]
        own = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0", **(environment or {})}
        self._running[name] = subprocess.Popen(
            [*command, f"--node-name={name}", "--node-ip-address=127.0.0.1", *more],
            env={**os.environ, **own},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if name == "head":
            self._wait()

    def _wait(self) -> None:
        host, _, port = self.address.partition(":")
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
                return
            assert time.monotonic() < end, "the head of the cluster does not answer"
            time.sleep(0.1)

    def wait_for(self, name: str) -> None:
        """Until it belongs to the cluster."""
        import ray

        ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
        end = time.monotonic() + 60
        while name not in {each["NodeName"] for each in ray.nodes() if each["Alive"]}:
            assert time.monotonic() < end, "a node does not join"
            time.sleep(0.1)
        ray.shutdown()

    def hands(self) -> list[psutil.Process]:
        """Processes of runs on the nodes, the oldest first."""
        found = []
        for node in self._running.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                for each in psutil.Process(node.pid).children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        found += [each] if "ray::Hand" in " ".join(each.cmdline()) else []
        return sorted(found, key=lambda each: each.create_time())

    def kill(self, name: str) -> None:
        """SIGKILL for the node and all that it has started."""
        _kill([self._running.pop(name)])

    def stop(self) -> None:
        _kill(list(self._running.values()))
        shutil.rmtree(self.folder, ignore_errors=True)


def _kill(roots: list[subprocess.Popen[bytes]]) -> None:
    family: list[psutil.Process] = []
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            family += [*psutil.Process(root.pid).children(recursive=True), psutil.Process(root.pid)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, 10)
    for root in roots:
        root.wait()


@contextlib.contextmanager
def nodes(*names: str) -> Iterator[Nodes]:
    """A cluster with a head and these nodes, one core each."""
    found = Nodes()
    try:
        for name in names:
            found.add(name)
            found.wait_for(name)  # Ray's sockets of nodes that start at the same time would have one name
        yield found
    finally:
        found.stop()
