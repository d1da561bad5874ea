"""Ctrl-C in a process of its own: one line, no traceback, gone although nobody listens."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import os, signal, sys, threading, time
from kiyas.judge import interrupt
interrupt.GONE_S = float(sys.argv[1])
interrupt.install()
interrupt.leaves("all is kept")
def press(): os.kill(os.getpid(), signal.SIGINT)
try:
"""
END = """
except KeyboardInterrupt:
    interrupt.say()
    print("seen", flush=True)
    sys.exit(130)
"""
WHERE = {
    "in Python": "    threading.Timer(0.05, press).start()\n    while True: time.sleep(0.01)",
    "twice": """
    threading.Timer(0.05, press).start()
    try:
        time.sleep(9)
    finally:
        press()
        time.sleep(0.05)
""",
    "in __del__": """
    class Dying:
        def __del__(self):
            press()
            time.sleep(0.05)
    Dying()
    time.sleep(9)
""",
    "never seen": """
    threading.Timer(0.05, press).start()
    while True:
        try:
            time.sleep(9)
        except KeyboardInterrupt:
            pass
""",
}


EARLY = """
import os, signal, sys, time
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "kiyas.cli":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(9)
sys.meta_path.insert(0, Stop())
from kiyas.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("where", WHERE)
def test_one_line_and_gone(where: str) -> None:
    seconds = "0.2" if where == "never seen" else "60"
    command = [sys.executable, "-c", BEGIN + WHERE[where] + END, seconds]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stderr == "\nkiyas: stopped; all is kept\n" and done.returncode == 130
    assert done.stdout == ("" if where == "never seen" else "seen\n")


def test_the_command_listens_before_it_has_loaded_anything() -> None:
    """The handler is there while the command's own modules are being loaded."""
    done = subprocess.run([sys.executable, "-c", EARLY, "demo"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (130, "\nkiyas: stopped; nothing was changed\n")


def test_what_a_script_starts_with_an_ampersand_ignores_ctrl_c() -> None:
    code = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{BEGIN}    press(); print('on')\n{END}"
    done = subprocess.run([sys.executable, "-c", code, "60"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")


@pytest.mark.parametrize("reader", ["gone", "asleep"])
def test_gone_although_nobody_reads_the_line(reader: str) -> None:
    full = "    os.set_blocking(2, False)\n    try: os.write(2, bytes(1 << 20))\n    except OSError: pass\n"
    full = f"{full}    os.set_blocking(2, True)\n" if reader == "asleep" else ""
    command = [sys.executable, "-c", BEGIN + full + WHERE["never seen"] + END, "0.1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        if reader == "gone":
            process.stderr.close()
        assert process.wait(30) == 130
