"""How long a command takes to begin, and to be gone after Ctrl-C, whenever it comes; beside plain Python.

    python benchmarks/stopping.py [--moments 0.1 1 3 6 10 20 30] [--rounds 3]

Each command gets a terminal of its own and its Ctrl-C from there, so that all its processes get it. Exit code 1: one
took longer than three seconds, or showed a traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_S = 3.0
COMMANDS = (
    ["demo", "--runs", "runs"],
    ["check", "study.yaml"],
    ["judge", "programs.jsonl", "--problems", "problems.jsonl"],
)


def stopped_after(command: list[str], moment: float, folder: Path) -> tuple[float, int, str]:
    """Seconds from Ctrl-C until all its processes have left the terminal, the exit code, and what was said after it.

    `moment`: seconds after the program was started.
    """
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(folder)
        os.execv(command[0], command)
    started = Path(f"/proc/{pid}/cmdline")
    while command[-1].encode() not in started.read_bytes().split(b"\0"):
        time.sleep(0.001)
    began, pressed, said = time.monotonic(), 0.0, b""
    while True:
        if not pressed and time.monotonic() - began > moment:
            os.write(terminal, b"\x03")
            pressed, said = time.monotonic(), b""
        if select.select([terminal], [], [], 0.01)[0]:
            try:
                more = os.read(terminal, 65536)
            except OSError:  # the last process has left
                break
            if not more:
                break
            said += more
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return time.monotonic() - pressed, os.waitstatus_to_exitcode(status), said.decode(errors="replace")


def prepared(folder: Path) -> None:
    write = [sys.executable, "-m", "kiyas", "init", "study.yaml", "--preset", "practice"]
    subprocess.run(write, cwd=folder, stderr=subprocess.DEVNULL, check=True)
    tests = [{"input": f"{n}\n", "output": f"{2 * n}\n"} for n in range(20)]
    program = "import time\nt = time.process_time()\nwhile time.process_time() - t < 0.3: pass\nprint(2 * int(input()))"
    programs = [{"problem_id": "double", "program": f"{program}  # {n}"} for n in range(40)]
    (folder / "problems.jsonl").write_text(json.dumps({"id": "double", "tests": tests}) + "\n")
    (folder / "programs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in programs))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=float, nargs="+", default=[0.1, 0.5, 1, 2, 4, 7, 11, 16, 25, 40])
    parser.add_argument("--rounds", type=int, default=5, help="of the beginning, each beside plain Python")
    args = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared(folder)
        for what in (["--help"], ["status", "--help"]):
            ratios, seconds = [], []
            for _ in range(args.rounds):
                spent = []
                for command in ([sys.executable, "-c", "pass"], [sys.executable, "-m", "kiyas", *what]):
                    began = time.monotonic()
                    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
                    spent.append(time.monotonic() - began)
                ratios.append(spent[1] / spent[0])
                seconds.append(spent[1])
            print(
                f"begin   kiyas {' '.join(what):15} {statistics.median(seconds):.2f} s, "
                f"{statistics.median(ratios):.1f} times plain Python"
            )
        for what in COMMANDS:
            for moment in args.moments:
                took, code, said = stopped_after([sys.executable, "-m", "kiyas", *what], moment, folder)
                if code in (-signal.SIGINT, 1) and "KeyboardInterrupt" in said:
                    print(f"early   kiyas {what[0]:8} at {moment:5.1f} s: Python itself was not ready")
                    continue
                if code != 130:
                    print(f"ended   kiyas {what[0]:8} before {moment:.1f} s")
                    break
                late, traced = took > LIMIT_S, "Traceback" in said
                failed |= late or traced
                print(f"stopped kiyas {what[0]:8} at {moment:5.1f} s: gone after {took:.2f} s{' LATE' * late}")
                if traced:
                    print(said)
    print("all gone in time" if not failed else "too late, or with a traceback")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
