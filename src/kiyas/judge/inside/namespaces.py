"""The tier `strong`: namespaces, a root folder of its own, and the keeper, who renews the scratch folder."""

# pathlib is left out for its import time.
# ruff: noqa: PTH102, PTH103, PTH106, PTH110, PTH112, PTH114, PTH115, PTH120, PTH123, PTH211
from __future__ import annotations

import _signal  # type: ignore[import-not-found,unused-ignore]
import _socket  # type: ignore[import-not-found,unused-ignore]
import os

import linux  # type: ignore[import-not-found,unused-ignore]

TYPE_CHECKING = False  # `typing` itself would cost every fork
if TYPE_CHECKING:
    from typing import Any

INSIDE_UID = 1000
# Landlock knows a folder in which something is mounted only by the folder above: hence two levels. /tmp leads here.
SCRATCH = "/scratch/tmp"
WORK = SCRATCH + "/run"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def enter_user_namespace(outside_uid: int, outside_gid: int, program_uid: int | None) -> None:
    """Two ids (0 for the zygote, INSIDE_UID for programs) if programs have their own; else only ours, as INSIDE_UID."""
    if program_uid is not None:
        ids = f"0 0 1\n{INSIDE_UID} {program_uid} 1"
        ready_r, ready_w = os.pipe()
        me, helper = os.getpid(), os.fork()
        if helper == 0:
            # Only a process outside the new namespace may write a map of more than its own id.
            os.read(ready_r, 1)
            try:
                for name in ("uid_map", "gid_map"):
                    with open(f"/proc/{me}/{name}", "w") as file:
                        file.write(ids)
            except OSError:
                os._exit(1)
            os._exit(0)
        try:
            linux.unshare(linux.CLONE_NEWUSER)
        finally:
            os.write(ready_w, b"x")
            os.close(ready_r)
            os.close(ready_w)
            status = os.waitpid(helper, 0)[1]
        if status:
            raise OSError("the id maps of the user namespace could not be written")
    else:
        linux.unshare(linux.CLONE_NEWUSER)
        for name, line in (
            ("setgroups", "deny"),
            ("uid_map", f"{INSIDE_UID} {outside_uid} 1"),
            ("gid_map", f"{INSIDE_UID} {outside_gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)


def build_root(visible: list[str]) -> None:
    """A root of its own: `visible` paths read-only, five devices, empty /tmp. Everything else does not exist."""
    sources, folders, links = {}, set(), {}
    for path in visible:  # before /tmp, below which they may lie, is covered
        if os.path.islink(path):
            links[path] = os.readlink(path)
        elif os.path.exists(path):
            sources[path] = os.open(path, os.O_PATH | os.O_CLOEXEC)
            if os.path.isdir(path):
                folders.add(path)
    devices = {path: os.open(path, os.O_PATH) for path in DEVICES}
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("kiyas", "/tmp", "tmpfs", linux.MS_NOSUID, "mode=755,size=1m")
    root = "/tmp"
    for path, fd in sources.items():
        target = root + path
        if path in folders:
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        linux.mount(f"/proc/self/fd/{fd}", target, None, linux.MS_BIND | linux.MS_REC)
        linux.restrict_mount(target, linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV)
        os.close(fd)
    for path, destination in links.items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(destination, root + path)
    for folder in ("proc", "dev", SCRATCH, "old"):
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    for path, fd in devices.items():
        os.close(os.open(root + path, os.O_CREAT | os.O_WRONLY))
        linux.mount(f"/proc/self/fd/{fd}", root + path, None, linux.MS_BIND)
        os.close(fd)
    for name, destination in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{destination}", f"{root}/dev/{name}")
    os.symlink(SCRATCH + "/shm", f"{root}/dev/shm")
    if not os.path.exists(f"{root}/tmp"):  # unless the interpreter lies there; then only TMPDIR leads to the scratch
        os.symlink(SCRATCH, f"{root}/tmp")
    linux.mount("proc", f"{root}/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    os.chdir(root)
    linux.pivot_root(".", "old")
    os.chdir("/")
    linux.umount("/old")
    os.rmdir("/old")
    linux.restrict_mount("/", linux.MOUNT_ATTR_RDONLY, recursive=False)


def enter_strong(config: dict[str, Any], control: _socket.socket) -> _socket.socket:
    """Namespaces per worker: user, net, ipc, uts, cgroup, mount, pid. Returns, as pid 1, the line to the keeper.

    The keeper, our parent, stays outside the pid namespace and keeps the right to mount, which we give up.
    """
    enter_user_namespace(os.getuid(), os.getgid(), config["uid"])
    die_with_parent()  # again: the kernel forgets it when a process changes its rights
    linux.unshare(linux.NAMESPACES)
    ours, keepers = _socket.socketpair()
    if child := os.fork():
        ours.close()
        control.close()
        keep_scratch(config, keepers)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):  # the judge sees how it ended
            os.kill(os.getpid(), os.WTERMSIG(status))
        os._exit(0 if status == 0 else 1)
    keepers.close()
    die_with_parent()
    build_root(config["visible"])
    return ours


def keep_scratch(config: dict[str, Any], line: _socket.socket) -> None:
    """In the keeper: for each byte a new empty, capped /tmp in place of the old one, until pid 1 is gone."""
    size = f"size={config['scratch_mb']}m,nr_inodes={config['inodes']},mode=755"
    mounted = False
    while line.recv(1):
        answer = b"ok"
        try:
            if mounted:
                linux.umount(SCRATCH)
            linux.mount("kiyas", SCRATCH, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, size)
            mounted = True
            os.chown(SCRATCH, INSIDE_UID, INSIDE_UID)
            for folder in (WORK, SCRATCH + "/shm"):
                os.mkdir(folder)
                os.chown(folder, INSIDE_UID, INSIDE_UID)
        except OSError as error:
            answer = f"{type(error).__name__}: {error}".encode()
        line.sendall(answer)


def die_with_parent() -> None:
    """Only in `strong`, where our end takes everything below along.

    Elsewhere the closed sockets tell us to clean up.
    """
    linux.prctl(linux.PR_SET_PDEATHSIG, _signal.SIGKILL)
