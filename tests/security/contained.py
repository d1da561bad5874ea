"""Runs a command as a container service runs its users': no namespaces, no mounts, the capabilities that Docker leaves.

python contained.py CAPABILITY[,CAPABILITY…] COMMAND…

More capabilities may be left, by number.
"""

from __future__ import annotations

import os
import sys
from importlib import resources

sys.path.insert(0, str(resources.files("kiyas") / "judge" / "inside"))
import linux

FORBIDDEN = (
    *("unshare", "setns", "mount", "umount2", "pivot_root", "mount_setattr", "move_mount", "open_tree"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "ptrace", "bpf", "perf_event_open", "keyctl", "add_key"),
)
LEFT = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
"""CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD,
AUDIT_WRITE, SETFCAP"""


def program() -> bytes:
    """These calls and new namespaces fail with EPERM; `clone3`, which hides its flags, is not there."""
    made = [linux._LOAD_CALL, linux._ins(linux._JEQ, 0, 1, linux.number("clone3"))]
    made += [linux._ins(linux._RET, 0, 0, linux._ERRNO | linux._ENOSYS)]
    for name in FORBIDDEN:
        made += linux._deny(name)
    made += linux._deny("clone", linux._load(0), linux._ins(linux._JSET, 0, 1, linux.NAMESPACES | linux.CLONE_NEWUSER))
    return b"".join([*made, linux._ins(linux._RET, 0, 0, linux._ALLOW)])


if __name__ == "__main__":
    if os.geteuid() != 0:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.Filter(program()).install()
    if os.geteuid() == 0:
        for capability in range(41):
            if capability not in (*LEFT, *map(int, sys.argv[1].split(","))):
                linux.prctl(linux.PR_CAPBSET_DROP, capability)
    os.execv(sys.argv[2], sys.argv[2:])
