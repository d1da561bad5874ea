"""What isolation really holds on this machine: a probe program is run in each tier and tries to break out."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from .sandbox import Job, Sandbox, last_words
from .types import Isolation, LostError, SandboxError, Tier

# Run inside the sandbox. Each line of its answer is one attempt; a tier holds if its own all failed as they should.
PROBE = r"""
import ctypes, json, os, socket, sys
found = {}
def attempt(name, act):
    try:
        found[name] = ["done", str(act())[:80]]
    except Exception as error:
        found[name] = ["refused", f"{type(error).__name__}: {error}"[:120]]
def libc(name, *arguments):
    call = getattr(ctypes.CDLL(None, use_errno=True), name)
    if call(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
attempt("pids", lambda: sorted(int(n) for n in os.listdir("/proc") if n.isdigit()))
def capabilities():
    held = [(ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()]
    libc("capget", *held)
    return held[1][0] | held[1][1] | (held[1][3] | held[1][4]) << 32
attempt("capabilities", capabilities)
attempt("bounding set", lambda: [n for n in range(64) if ctypes.CDLL(None).prctl(23, n, 0, 0, 0) == 1])
attempt("no_new_privs", lambda: ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))
attempt("seccomp", lambda: ctypes.CDLL(None).prctl(21, 0, 0, 0, 0))
attempt("interfaces", lambda: sorted(l.split(":")[0].strip() for l in open("/proc/self/net/dev") if ":" in l))
attempt("uid", os.getuid)
attempt("read /etc/passwd", lambda: open("/etc/passwd").read())
attempt("read /etc/hostname", lambda: open("/etc/hostname").read())
attempt("write interpreter", lambda: open(os.path.join(sys.prefix, "lib", "kiyas-probe"), "w").write("x"))
attempt("write /", lambda: os.mkdir("/kiyas-probe"))
attempt("socket", lambda: socket.socket())
attempt("unshare", lambda: libc("unshare", 0x10000000))
attempt("mount", lambda: libc("mount", b"none", b"/tmp", b"tmpfs", 0, None))
attempt("ptrace", lambda: libc("ptrace", 0, 0, 0, 0))
attempt("shmget", lambda: libc("shmget", 0, 4096, 0o1600))
def fill():
    for i in range(12):
        open(f"fill{i}", "wb").write(b"x" * (8 << 20))
if input() == "strong":  # elsewhere the judge counts, and ends a program that holds too much
    attempt("fill scratch", fill)
for name in os.listdir("."):
    if name.startswith("fill"):
        os.remove(name)
attempt("write scratch", lambda: open("small", "w").write("x"))
def fd_open(n):
    try:
        os.fstat(n)
        return True
    except OSError:
        return False
attempt("descriptors", lambda: [n for n in range(3, 1024) if fd_open(n)])
attempt("environment", lambda: sorted(os.environ))
print(json.dumps(found))
"""

REFUSED = [
    "read /etc/passwd",
    "read /etc/hostname",
    "write interpreter",
    "write /",
    "socket",
    "unshare",
    "mount",
    "ptrace",
    "shmget",
]


@dataclass(frozen=True)
class TierReport:
    """One tier: whether it holds here, why not, and what was found."""

    tier: Tier
    holds: bool
    reason: str
    notes: tuple[str, ...] = ()


def probe(python: str | None = None) -> tuple[TierReport, ...]:
    """Start each tier, best first, and run a program that tries to get out of it. Takes about half a second."""
    return tuple(probe_tier(tier, python) for tier in Tier)


@functools.lru_cache(maxsize=32)
def probe_tier(tier: Tier, python: str | None = None) -> TierReport:
    if tier is not Tier.WEAK and not sys.platform.startswith("linux"):
        return TierReport(tier, False, f"needs Linux, this is {sys.platform}")
    if sys.platform.startswith("linux") and not Path("/proc/self/statm").exists():
        return TierReport(tier, False, "/proc cannot be read: memory and CPU time of programs could not be watched")
    for attempt in (1, 2):
        try:
            return _probe(tier, python)
        except LostError:
            if attempt == 2:  # a tier is not given up for what somebody else did to its processes
                raise
    raise AssertionError("the second attempt returns or raises")


def _probe(tier: Tier, python: str | None) -> TierReport:
    try:
        with Sandbox(tier, python) as sandbox:
            run = sandbox.run(Job("script", PROBE, stdin=tier, cpu_s=5, wall_s=10))
            uid = "yes" if sandbox.uid is not None else "no (only root can give programs one)"
            landlock = f"Landlock ABI {sandbox.landlock}" if sandbox.landlock else "Landlock: none in this kernel"
    except LostError:
        raise
    except SandboxError as error:
        return TierReport(tier, False, "; ".join(filter(None, (error.args[0], error.hint))))
    try:
        found = json.loads(run.stdout)
    except ValueError:
        reason = last_words(run.stderr) or run.killed or run.status
        return TierReport(tier, False, f"the probe did not run: {reason}")
    wrong = [] if tier is Tier.WEAK else faults(tier, found, sandbox)
    if found.get("descriptors") != ["done", "[]"]:
        wrong.append(f"open descriptors: {found.get('descriptors')}")
    notes = (f"distinct uid: {uid}", landlock, sandbox.group_note, "memory summed over the tree from /proc")
    return TierReport(tier, not wrong, "; ".join(wrong), notes)


def faults(tier: Tier, found: dict[str, list[str]], sandbox: Sandbox) -> list[str]:
    """The tier's promises that did not hold in the probe."""
    refused = [*REFUSED, "fill scratch"] if tier is Tier.STRONG else REFUSED
    wrong = [f"not refused: {name} ({found[name][1]})" for name in refused if found[name][0] != "refused"]
    if found["write scratch"][0] != "done":
        wrong.append(f"the scratch folder cannot be used: {found['write scratch'][1]}")
    kept = 1 << 2 if sandbox.closed else 0  # CAP_DAC_READ_SEARCH
    expected = {"capabilities": str(kept), "no_new_privs": "1", "seccomp": "2"}
    if tier is Tier.STRONG or sandbox.uid is not None:  # an ordinary user cannot empty it; no_new_privs bars its use
        expected["bounding set"] = "[]"
    if tier is Tier.STRONG:
        expected |= {"uid": "1000", "interfaces": "['lo']", "pids": "[1, 2]"}
    elif not sandbox.landlock:
        wrong.append("Landlock is not in this kernel")
    wrong += [
        f"{name}: {found[name][1]}, not {value}" for name, value in expected.items() if found[name] != ["done", value]
    ]
    return wrong


def choose(isolation: str, python: str | None = None) -> Tier:
    """The tier asked for, if it holds; `best`: the best that does. Never a silent step down: SandboxError."""
    if isolation not in list(Isolation):
        raise SandboxError(f"unknown isolation {isolation!r}", f"one of {', '.join(Isolation)}")
    for tier in list(Tier) if isolation == Isolation.BEST else [Tier(isolation)]:
        report = probe_tier(tier, python)
        if report.holds:
            return tier
    best = next((other for other in Tier if probe_tier(other, python).holds), None)
    hint = f"this machine has --isolation {best}" if best else "`kiyas doctor` shows every tier"
    raise SandboxError(f"isolation {isolation} does not hold on this machine: {report.reason}", hint)
