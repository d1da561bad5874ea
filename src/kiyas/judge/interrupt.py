"""Ctrl-C: one line, no traceback, and the process is gone within three seconds, whatever it does.

The first one raises KeyboardInterrupt in the main thread, as usual. Who is deep in one long computation does not see
that: a second thread ends the process after a second and a half, as `kill -9` would, which every file of ours survives.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType

GONE_S = 1.5
_stopped = "nothing was changed"
_came = False
_said = False
_lost = False
_code: int | None = None


def install() -> None:
    """For this process, until its end; not where Ctrl-C is ignored, as in what a script starts with `&`.

    Only the main thread of a command may call it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.signal(signal.SIGINT, _interrupted)
    # The signal's number is written there at once, even while the main thread computes outside Python.
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    sys.unraisablehook = _unraisable
    threading.Thread(target=_watch, args=(read,), daemon=True).start()
    atexit.register(_leave)  # the first one registered is the last one called


def leaves(stopped: str) -> None:
    """What Ctrl-C leaves behind from now on, and how to go on."""
    global _stopped
    _stopped = stopped


def came() -> bool:
    """Whether somebody pressed Ctrl-C: what fails after that is no mistake."""
    return _came


def end(code: int) -> None:
    """The work is done: from now on Ctrl-C comes too late, and the process ends with this exit code, at once."""
    global _code
    _code = code


def say() -> None:
    """The one line."""
    global _said
    _said = True
    with contextlib.suppress(OSError, ValueError):  # nobody reads it
        print(f"\nkiyas: stopped; {_stopped}", file=sys.stderr, flush=True)


def _interrupted(number: int, frame: FrameType | None) -> None:
    global _came
    if not _came and _code is None:
        _came = True
        raise KeyboardInterrupt


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    """Ctrl-C that came while an object was taken down, which lets no exception through: it must come once more."""
    global _lost
    if _came and issubclass(found.exc_type, KeyboardInterrupt):
        _lost = True
    else:
        sys.__unraisablehook__(found)


def _watch(read: int) -> None:
    global _came, _lost
    while signal.SIGINT not in os.read(read, 64) or _code is not None:
        pass
    latest = time.monotonic() + GONE_S
    while time.monotonic() < latest:
        time.sleep(0.02)
        if _lost:
            _lost = _came = False
            os.kill(os.getpid(), signal.SIGINT)
    if not _said:
        # Of its own, since whoever reads it may be asleep.
        said = threading.Thread(target=say, daemon=True)
        said.start()
        said.join(0.5)
    os._exit(128 + signal.SIGINT)


def _leave() -> None:
    """Nobody waits for millions of objects to be taken down one by one."""
    code = 128 + signal.SIGINT if _came else _code
    if code is not None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or full
                stream.flush()
        os._exit(code)
