"""The Linux calls that Python does not wrap: mounts, namespaces, capabilities, Landlock, seccomp. By ctypes.

Every function raises OSError naming the call. Nothing here decides policy except the list of denied system calls.
"""

# ruff: noqa: PTH112
import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_FILES, CLONE_THREAD = 0x400, 0x10000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
# All but the user namespace, which is entered first.
NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4

AF_UNIX, F_SETPIPE_SZ, MAP_HUGETLB = 1, 1031, 0x40000
F_SETLEASE, F_NOTIFY, CLOSE_RANGE_UNSHARE, RLIMIT_CORE = 1024, 1026, 2, 4
CAP_DAC_READ_SEARCH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 8, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 36, 38, 47, 2

# Numbers of system calls: (x86_64, aarch64); None where the architecture has no such call.
Calls = dict[str, tuple[int | None, int | None]]
DENIED: Calls = {
    "accept": (43, 202),
    "accept4": (288, 242),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bind": (49, 200),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "connect": (42, 203),
    "delete_module": (176, 106),
    "fallocate": (285, 47),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "flock": (73, 32),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "fsetxattr": (190, 7),
    "init_module": (175, 105),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "io_setup": (206, 0),
    "io_submit": (209, 2),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listen": (50, 201),
    "listmount": (458, 458),
    "lookup_dcookie": (212, 18),
    "lsetxattr": (189, 6),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "msgctl": (71, 187),
    "msgget": (68, 186),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "remap_file_pages": (216, 234),
    "request_key": (249, 218),
    "semctl": (66, 191),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "sendfile": (40, 71),
    "sendmmsg": (307, 269),
    "sendmsg": (46, 211),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setsockopt": (54, 208),
    "settimeofday": (164, 170),
    "setxattr": (188, 5),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "shmget": (29, 194),
    "socket": (41, 198),
    "splice": (275, 76),
    "statmount": (457, 457),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "syslog": (103, 116),
    "tee": (276, 77),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
    "vmsplice": (278, 75),
}
# What Landlock does not cover. Denied where programs have the same user as you and no root folder of their own.
OF_YOUR_FILES: Calls = {
    "chmod": (90, None),
    "chown": (92, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "fremovexattr": (199, 16),
    "futimesat": (261, None),
    "lchown": (94, None),
    "lremovexattr": (198, 15),
    "removexattr": (197, 14),
    "utime": (132, None),
    "utimensat": (280, 88),
    "utimes": (235, None),
}
# Only called from here, or filtered by argument.
OTHERS: Calls = {
    "capget": (125, 90),
    "capset": (126, 91),
    "exit": (60, 93),
    "clone": (56, 220),
    "clone3": (435, 435),
    "close_range": (436, 436),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "ioprio_set": (251, 30),
    "landlock_restrict_self": (446, 446),
    "mmap": (9, 222),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "seccomp": (317, 277),
    "sendto": (44, 206),
    "socketpair": (53, 199),
    "setpriority": (141, 140),
    "setrlimit": (160, 164),
}
SYSCALLS = DENIED | OF_YOUR_FILES | OTHERS
# What a sandbox is made of. A program that made more of it would hold memory of the kernel's that nobody counts.
OF_A_SANDBOX = ("landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp")
# Calls that may only name the caller itself (0): which argument names the process. Two of them have one more argument
# and value that would mean everyone of the same user.
ONLY_ONESELF = {
    "prlimit64": 0,
    "sched_setaffinity": 0,
    "sched_setattr": 0,
    "sched_setparam": 0,
    "sched_setscheduler": 0,
    "setpriority": 1,
    "ioprio_set": 1,
}
EVERYONE = {"setpriority": (0, 2), "ioprio_set": (0, 3)}
LAST_KNOWN_PRCTL = 61
"""Later ones make the kernel hold memory (PR_FUTEX_HASH, names of mappings) or slow others (PR_SCHED_CORE)."""
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINE = os.uname().machine
LAST_KNOWN_SYSCALL = 462


def number(name: str) -> int | None:
    """The system call's number on this machine, None where it has none or the machine is unknown."""
    if MACHINE not in AUDIT_ARCH:
        return None
    return SYSCALLS[name][0 if MACHINE == "x86_64" else 1]


def _check(result: int, what: str) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")
    return result


def syscall(name: str, *args: object) -> int:
    nr = number(name)
    if nr is None:
        raise OSError(38, f"{name}: no such system call on {MACHINE}")
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return _check(_libc.syscall(ctypes.c_long(nr), *converted), name)


def unshare(flags: int) -> None:
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(fd: int, flags: int) -> None:
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)), "setns")


def prctl(option: int, *args: int) -> int:
    padded = [ctypes.c_ulong(a) for a in (*args, 0, 0, 0, 0)[:4]]
    return _check(_libc.prctl(ctypes.c_int(option), *padded), f"prctl({option})")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags), data.encode()
    )
    _check(result, f"mount {kind or 'bind'} on {target}")


def umount(target: str) -> None:
    _check(_libc.umount2(target.encode(), ctypes.c_int(MNT_DETACH)), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    syscall("pivot_root", ctypes.c_char_p(new_root.encode()), ctypes.c_char_p(put_old.encode()))


def restrict_mount(target: str, attributes: int, recursive: bool = True) -> None:
    """Give these attributes to the mount at `target`, and to those below it (Linux 5.12)."""
    attr = struct.pack("=QQQQ", attributes, 0, 0, 0)
    at_fdcwd, flags = -100, 0x8000 if recursive else 0
    buffer = ctypes.create_string_buffer(attr, len(attr))
    syscall("mount_setattr", at_fdcwd, ctypes.c_char_p(target.encode()), flags, buffer, len(attr))


def drop_bounding_set() -> None:
    """No exec may ever bring a capability back. To be called while CAP_SETPCAP is still held, before setuid."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == 22:  # past the last capability this kernel knows
                break
            if error.errno != 1:  # an ordinary user, who has none to begin with
                raise


_BE_DUMPABLE = (ctypes.c_int(PR_SET_DUMPABLE), *map(ctypes.c_ulong, (1, 0, 0, 0)))


def capset_of(kept: int | None) -> tuple[object, ...]:
    """Arguments for `set_capabilities` that keep this one capability, or none: made before a fork, used after it."""
    mask = 0 if kept is None else 1 << kept
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8)
    sets = ctypes.create_string_buffer(struct.pack("=6I", mask, mask, 0, 0, 0, 0), 24)
    return ctypes.c_long(number("capset") or 0), header, sets


def set_capabilities(capset: tuple[object, ...]) -> None:
    if _libc.syscall(*capset) < 0:
        raise OSError(ctypes.get_errno(), "capset")


def keep_capabilities_over_exec() -> None:
    """Those that this process has, once: to be called while the bounding set is whole."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8)
    sets = ctypes.create_string_buffer(24)
    syscall("capget", header, sets)
    low_effective, low, _, high_effective, high, _ = struct.unpack("=6I", sets.raw)
    sets.raw = struct.pack("=6I", low_effective, low, low, high_effective, high, high)
    syscall("capset", header, sets)
    for capability in range(64):
        if (low | high << 32) >> capability & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def keep_no_capabilities_over_exec() -> None:
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8)
    sets = ctypes.create_string_buffer(24)
    syscall("capget", header, sets)
    low_effective, low, _, high_effective, high, _ = struct.unpack("=6I", sets.raw)
    sets.raw = struct.pack("=6I", low_effective, low, 0, high_effective, high, 0)
    syscall("capset", header, sets)


def become_dumpable() -> None:
    if _libc.prctl(*_BE_DUMPABLE) < 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


# --- seccomp ---------------------------------------------------------------------------------------------------

_LD_W_ABS, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38


def _ins(code: int, jt: int, jf: int, k: int) -> bytes:
    return struct.pack("=HBBI", code, jt, jf, k & 0xFFFFFFFF)


_DENY = _ins(_RET, 0, 0, _ERRNO | _EPERM)
_LOAD_CALL = _ins(_LD_W_ABS, 0, 0, 0)


def _load(argument: int, high: bool = False) -> bytes:
    """The lower or the higher half of an argument of the call."""
    return _ins(_LD_W_ABS, 0, 0, 16 + 8 * argument + 4 * high)


def _deny(name: str, *test: bytes) -> list[bytes]:
    """Deny this call where `test`, which ends with a jump over one instruction for what is allowed, does not jump."""
    if (nr := number(name)) is None:
        return []
    return [_ins(_JEQ, 0, len(test) + 2, nr), *test, _DENY, _LOAD_CALL]


def _deny_sandboxes() -> list[bytes]:
    """No call of OF_A_SANDBOX."""
    program = [line for name in OF_A_SANDBOX for line in _deny(name)]
    return program + _deny("prctl", _load(0), _ins(_JEQ, 0, 1, PR_SET_SECCOMP))


def seccomp_program(spare_files: bool = False, final: bool = True) -> bytes:
    """A BPF filter: the calls of DENIED fail with EPERM, new namespaces too, unknown calls with ENOSYS.

    Those of ONLY_ONESELF fail where they name another process, those of OF_YOUR_FILES only with `spare_files`. If it is
    not `final`, programs add `last_seccomp_program` themselves. Another architecture's calls kill the process.
    Raises OSError for a machine it knows no numbers of.
    """
    if MACHINE not in AUDIT_ARCH:
        raise OSError(38, f"seccomp: no system call table for {MACHINE}")
    program = [
        _ins(_LD_W_ABS, 0, 0, 4),
        _ins(_JEQ, 1, 0, AUDIT_ARCH[MACHINE]),
        _ins(_RET, 0, 0, _KILL),
        _LOAD_CALL,
        # Also x32, whose numbers have bit 30 set.
        _ins(_JGE, 0, 1, LAST_KNOWN_SYSCALL + 1),
        _ins(_RET, 0, 0, _ERRNO | _ENOSYS),
        # clone3 hides its flags behind a pointer; ENOSYS makes every libc fall back to clone.
        _ins(_JEQ, 0, 1, number("clone3") or 0),
        _ins(_RET, 0, 0, _ERRNO | _ENOSYS),
    ]
    for name in DENIED | OF_YOUR_FILES if spare_files else DENIED:
        if (nr := number(name)) is not None:
            program += [_ins(_JEQ, 0, 1, nr), _DENY]
    for name, argument in ONLY_ONESELF.items():
        program += _deny(name, _load(argument), _ins(_JEQ, 1, 0, 0))
    for name, (argument, value) in EVERYONE.items():
        program += _deny(name, _load(argument), _ins(_JEQ, 0, 1, value))
    # Pairs of sockets are for the program's own processes: of one family, and nobody else is written to.
    program += _deny("socketpair", _load(0), _ins(_JEQ, 1, 0, AF_UNIX))
    for high in (False, True):
        program += _deny("sendto", _load(4, high), _ins(_JEQ, 1, 0, 0))
    # Of a socket: the machine's network interfaces.
    program += _deny("ioctl", _load(1), _ins(_JGE, 0, 2, 0x8900), _ins(_JGE, 1, 0, 0x8A00))
    # Of a file that others have open, too: their opening waits for a lease, and shows.
    for command in (F_SETPIPE_SZ, F_SETLEASE, F_NOTIFY):
        program += _deny("fcntl", _load(1), _ins(_JEQ, 0, 1, command))
    program += _deny("mmap", _load(3), _ins(_JSET, 0, 1, MAP_HUGETLB))  # it counts nowhere as memory of the process
    # Not CLONE_NEWTIME: the low byte of clone's flags is a signal. A thread with descriptors of its own: they would not
    # be counted.
    program += _deny("clone", _load(0), _ins(_JSET, 0, 1, NAMESPACES | CLONE_NEWUSER))
    program += _deny("clone", _load(0), _ins(_JSET, 0, 2, CLONE_THREAD), _ins(_JSET, 1, 0, CLONE_FILES))
    program += _deny("close_range", _load(2), _ins(_JSET, 0, 1, CLOSE_RANGE_UNSHARE))
    program += _deny("prctl", _load(0), _ins(_JGE, 0, 1, LAST_KNOWN_PRCTL + 1))
    # With 0, unlike 1, the system would keep the memory of a crashed program where core_pattern says so.
    program += _deny("setrlimit", _load(0), _ins(_JEQ, 0, 1, RLIMIT_CORE))
    for high in (False, True):  # it may ask, with no new limits
        program += _deny("prlimit64", _load(1), _ins(_JEQ, 0, 3, RLIMIT_CORE), _load(2, high), _ins(_JEQ, 1, 0, 0))
    return b"".join([*program, *(_deny_sandboxes() if final else ()), _ins(_RET, 0, 0, _ALLOW)])


def last_seccomp_program() -> bytes:
    """For after the last use of what a sandbox is made of. Nor may a program hide the files that it has open."""
    undumpable = _deny("prctl", _load(0), _ins(_JEQ, 0, 3, PR_SET_DUMPABLE), _load(1), _ins(_JEQ, 0, 1, 0))
    return b"".join([_LOAD_CALL, *_deny_sandboxes(), *undumpable, _ins(_RET, 0, 0, _ALLOW)])


class Filter:
    """A BPF program made before a fork, to be installed after it."""

    def __init__(self, program: bytes) -> None:
        self._instructions = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(self._instructions))
        self._header = ctypes.create_string_buffer(header, len(header))

    def install(self) -> None:
        """Needs no_new_privs. Holds for this process and all its descendants, for good."""
        prctl(PR_SET_SECCOMP, 2, ctypes.addressof(self._header))


# --- Landlock --------------------------------------------------------------------------------------------------

_FS_READ = 0x1 | 0x4 | 0x8  # execute, read file, read folder
_FS_ALL_V1 = (1 << 13) - 1
_FILE_ONLY = 0x1 | 0x2 | 0x4 | (1 << 14) | (1 << 15)


def landlock_abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    try:
        return syscall("landlock_create_ruleset", 0, 0, 1)
    except OSError:
        return 0


def restrict_files(readable: list[str], writable: list[str]) -> int:
    """Landlock: only these paths are visible to open(); no TCP; no signals or abstract sockets to the outside.

    The last two where the kernel has them (ABI 4, ABI 6). Needs no_new_privs. Returns the ABI that was used.
    """
    abi = landlock_abi()
    if abi < 1:
        raise OSError(38, "Landlock is not in this kernel")
    every = _FS_ALL_V1 | (1 << 13 if abi >= 2 else 0) | (1 << 14 if abi >= 3 else 0) | (1 << 15 if abi >= 5 else 0)
    attributes = struct.pack("=QQQ", every, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset = syscall("landlock_create_ruleset", buffer, size, 0)
    try:
        for paths, access in ((readable, _FS_READ), (writable, every)):
            for path in paths:
                try:
                    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
                try:
                    allowed = access if os.path.isdir(path) else access & _FILE_ONLY & every
                    rule = ctypes.create_string_buffer(struct.pack("=Qi", allowed, fd), 12)
                    syscall("landlock_add_rule", ruleset, 1, rule, 0)
                finally:
                    os.close(fd)
        syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    return abi
