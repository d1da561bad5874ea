"""Faults at the write layer of every Python process that is started with this folder in PYTHONPATH.

KIYAS_FAULT names a JSON file: {"kind", "at", "leader", "counter", "journal", "copied_every_s"}. Every write of the run
folder counts one point, in all processes together; at the point `at` the fault happens, once. `at` may also be "STAGE:
before" or "STAGE: after": before or after a stage is declared finished. `copied_every_s`: how often a run is copied to
its store.
"""

import errno
import json
import os
import random
import signal
from pathlib import Path


def _install(spec):
    from kiyas.runfolder import files, store

    store.EVERY_S = spec["copied_every_s"]
    counter, journal = Path(spec["counter"]), Path(spec["journal"])

    def append(path, text):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, text.encode())
        size = os.lseek(descriptor, 0, os.SEEK_END)
        os.close(descriptor)
        return size

    def note(path):
        """So much of the file outlives a power cut."""
        append(journal, json.dumps([str(path), Path(path).stat().st_size]) + "\n")

    def lose():
        """Everything after the last fsync is lost, or a part of it."""
        kept = dict(json.loads(line) for line in journal.read_text().splitlines()) if journal.exists() else {}
        chance = random.Random(spec["at"])
        for path, size in kept.items():
            if Path(path).is_file() and (now := Path(path).stat().st_size) > size:
                os.truncate(path, chance.choice((size, chance.randint(size, now))))

    def point():
        if append(counter, ".") == spec["at"]:
            fault()

    def fault():
        kind = spec["kind"]
        if kind == "full disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if kind == "out of memory":
            raise MemoryError("out of memory")
        if kind in ("SIGINT", "SIGTERM"):
            os.kill(int(Path(spec["leader"]).read_text()), getattr(signal, kind))
        elif kind == "dead process":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            if kind == "power cut":
                lose()
            os.killpg(int(Path(spec["leader"]).read_text()), signal.SIGKILL)
            signal.pause()

    def before(owner, name):
        real = getattr(owner, name)

        def counted(*args, **more):
            point()
            return real(*args, **more)

        setattr(owner, name, counted)

    real_sync, real_open = files._sync, files.JsonlWriter.__init__

    def sync(file):
        point()
        real_sync(file)
        note(file.name)

    def opened(self, path):
        real_open(self, path)
        note(path)
        note(files.seal_of(path))

    real_replace = files._replace

    def replace(temporary, path):
        boundary = f"{path.parent.name}: " if path.name == "manifest.json" else ""
        point()
        if spec["at"] == f"{boundary}before":
            fault()
        real_replace(temporary, path)
        if spec["at"] == f"{boundary}after":
            fault()

    files._sync, files._replace, files.JsonlWriter.__init__ = sync, replace, opened
    before(files.JsonlWriter, "write")
    before(files.JsonlWriter, "_confirm")


if "KIYAS_FAULT" in os.environ:
    _install(json.loads(Path(os.environ["KIYAS_FAULT"]).read_text()))
