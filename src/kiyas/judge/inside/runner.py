"""The last of our code that runs before the program's: three ways to run one.

Two more are in files of their own: `livecodebench.py`, and `parted.py` (tests in a process of their own).

The process has already given up its rights. Descriptor 3 is the report, 4 the payload (the program and, after it,
what its way of running needs). First byte of the report: `C` the program compiles, `E` it does not (the reason
follows), `S` the sandbox could not be set up. Whatever comes after `C` was written in the program's own process and
is believed as little as its stdout: it can only ever be compared with an expected value it has never seen.
"""

# A program may raise anything at all.
# ruff: noqa: BLE001
from __future__ import annotations

# Not the module around it, which costs every fork.
import _signal  # type: ignore[import-not-found,unused-ignore]
import atexit
import builtins
import gc
import json
import marshal
import os
import sys
import warnings
from _weakref import ref as weak_reference
from contextlib import suppress
from types import ModuleType

TYPE_CHECKING = False  # `typing` itself would cost every fork
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

REPORT, PAYLOAD = 3, 4
# What LeetCode-style problems expect to be imported, as LiveCodeBench does it.
NAMES = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
)
PREAMBLE = "\n".join(
    [f"from {name} import *" for name in [*NAMES.split(), "builtins", "typing"]]
    + [f"import {name}" for name in NAMES.split()]
)


def run(
    kind: str,
    folder: str,
    entry_point: str | None,
    sizes: tuple[int, int, int],
    keep_code: bool,
    parted: Callable[[Any, str, bytes], None] | None = None,
) -> None:
    """`sizes` in bytes, of what the payload holds: source, code, and what the kind needs besides. Never returns.

    `parted` runs the program where its tests are in another process.
    """
    path = folder + "/main.py"
    in_source, in_code, in_extra = sizes
    depth = own_depth()
    try:
        source = read_at(0, in_source)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        write_all(source, file)
        os.close(file)
    except OSError as error:  # the disk is full: not the program's doing
        write_all(f"S{error}".encode("utf-8", "replace"))
        os._exit(1)
    try:
        if in_code:
            code = marshal.loads(read_at(in_source, in_code))
        else:
            hide_depth(depth)  # the compiler's depth is counted from here, too
            code = compile(source, path, "exec", dont_inherit=True)
    except BaseException as error:
        does_not_compile(error)
        os._exit(1)
    write_all(b"C" + (pack(code) if keep_code else NOTHING))
    # What calls the program is one frame more; where calls are answered, or an expression evaluated, two.
    hide_depth(depth + (1 if kind in ("script", "function") else 2))
    if kind == "asserts":
        run_asserts(code, folder, in_source + in_code, in_extra)
    extra = read_at(in_source + in_code, in_extra)
    os.close(PAYLOAD)
    if parted is not None:
        os.close(REPORT)
        parted(code, folder, extra)
    elif kind == "script":
        os.close(REPORT)
        run_script(code, folder)
    else:
        run_function(code, folder, entry_point or "", json.loads(extra))


INSIDE = __file__[: __file__.rindex("/") + 1]
MOST = (1 << 31) - 1  # of a C int
# Before 3.12, the call of a built-in, such as `exec`, counts in the recursion depth.
OF_A_CALL = int(sys.version_info < (3, 12))
INTERRUPTED = -2  # ends by SIGINT, as the interpreter does
NOTHING = bytes(4)
MARK = b""  # on stderr: an uncaught MemoryError, which a program cannot say by writing so; the judge's random bytes
CODE_CAP = 60_000


def pack(code: Any) -> bytes:
    """Length and marshalled code, for the next tests of this program; nothing where it is too large to be worth it."""
    try:
        packed = marshal.dumps(code)
    except ValueError:
        return NOTHING
    return len(packed).to_bytes(4, "big") + packed if len(packed) <= CODE_CAP else NOTHING


def own_depth() -> int:
    """The caller's frame and those below it, which a script of its own would not have."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def hide_depth(frames: int) -> None:
    """Our `frames` below the program's count in no recursion limit, neither the one it finds nor one that it sets."""
    global _hidden
    _hidden = frames + OF_A_CALL
    _put_limit(_limit + _hidden)


_get_limit, _put_limit = sys.getrecursionlimit, sys.setrecursionlimit
_limit, _hidden = _get_limit(), 0


def getrecursionlimit() -> int:
    return _limit


def setrecursionlimit(limit: int, /) -> None:
    global _limit
    limit = limit.__index__() if hasattr(type(limit), "__index__") else limit
    try:
        _put_limit(min(limit + _hidden, MOST) if isinstance(limit, int) and 0 < limit <= MOST else limit)
    except RecursionError:
        here = own_depth() - 1 - _hidden + 2 * OF_A_CALL
        if here >= limit:
            reason = f"cannot set the recursion limit to {limit} at the recursion depth {here}: the limit is too low"
            raise RecursionError(reason) from None
        _put_limit(limit + _hidden + 1)  # this very function needs one more
    _limit = limit


getrecursionlimit.__module__ = setrecursionlimit.__module__ = "sys"


def does_not_compile(error: BaseException) -> None:
    """As the interpreter prints it."""
    sys.stderr = text = sys.modules["io"].StringIO()
    error.__traceback__ = None
    sys.__excepthook__(type(error), error, None)
    write_all(("E" + text.getvalue()).encode("utf-8", "replace"))


def read_at(offset: int, size: int) -> bytes:
    content = os.pread(PAYLOAD, size, offset) if size else b""
    while len(content) < size:
        content += os.pread(PAYLOAD, size - len(content), offset + len(content))
    return content


def fresh_streams() -> None:
    """Text streams as a started script has them: strict UTF-8, stdout buffered in blocks (it is a pipe)."""
    sys.stdin = open(0, encoding="utf-8", errors="strict", newline="\n", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="strict", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        stream.buffer.raw.name = f"<{name}>"
        setattr(sys, f"__{name}__", stream)


def fresh_builtins() -> None:
    """`exit` and its friends, which the module `site` would have added; limits of recursion that do not count us."""
    sys.getrecursionlimit, sys.setrecursionlimit = getrecursionlimit, setrecursionlimit
    site = sys.modules.get("site")
    if site is not None and not hasattr(builtins, "exit"):
        site.setquit()
        site.setcopyright()
        site.sethelper()


def new_module(name: str, folder: str) -> ModuleType:
    module = ModuleType(name)
    module.__dict__["__file__"] = folder + "/main.py"
    module.__dict__["__builtins__"] = builtins
    sys.modules[name] = module
    sys.path.insert(0, folder)
    return module


def show(error: BaseException) -> None:
    """The traceback as the interpreter prints it, without our own frames. A MemoryError is marked besides."""
    if isinstance(error, MemoryError):
        with suppress(OSError):
            os.write(2, MARK)
    trace = hide_ours(error)
    try:
        sys.excepthook(type(error), error, trace)
    except SystemExit:
        raise
    except BaseException as broken:
        if broken.__context__ is error:
            broken.__context__ = None
        print("Error in sys.excepthook:", file=sys.stderr)
        sys.__excepthook__(type(broken), broken, hide_ours(broken))
        print("\nOriginal exception was:", file=sys.stderr)
        sys.__excepthook__(type(error), error, trace)


def hide_ours(error: BaseException) -> Any:
    """Take our own frames out of its traceback, which is returned, and of those that are shown with it."""
    fields: Any = vars(BaseException)  # the real ones, whatever the program's class has
    seen, waiting = set(), [error]
    while waiting:
        each = waiting.pop()
        seen.add(id(each))
        at = trace = without_ours(fields["__traceback__"].__get__(each))
        while at is not None:
            at.tb_next = without_ours(at.tb_next)
            at = at.tb_next
        BaseException.with_traceback(each, trace)
        near = [fields[name].__get__(each) for name in ("__cause__", "__context__")]
        waiting += [other for other in near if other is not None and id(other) not in seen]
    return fields["__traceback__"].__get__(error)


def without_ours(trace: Any) -> Any:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(INSIDE):
        trace = trace.tb_next
    return trace


def run_script(code: Any, folder: str) -> None:
    modules = [new_module("__main__", folder)]  # a list, so that its last reference can be dropped at the end
    modules[0].__dict__.update(__annotations__={}, __cached__=None)
    status, before = 0, gc.get_stats()
    try:
        try:
            exec(code, modules[0].__dict__)
        finally:
            flush(silent=True)  # the interpreter does, before anything else
    except SystemExit as ended:
        status = exit_status(ended.code)
    except BaseException as error:
        status = INTERRUPTED if type(error) is KeyboardInterrupt else 1
        try:
            show(error)
        except SystemExit as ended:  # the program's own excepthook
            status = exit_status(ended.code)
    del code
    end_interpreter(modules, status, before)


def exit_status(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return int.__index__(code) & 0xFF if -(1 << 63) <= code < 1 << 63 else 0xFF
    with suppress(Exception):
        print(code, file=sys.stderr)
    return 1


_kept: list[Any] = []


def end_interpreter(modules: list[ModuleType], status: int, before: list[dict[str, int]]) -> None:
    """What the interpreter does at its end, in its order, but for our own objects: not one page of theirs is touched.

    Threads are joined, atexit functions run, streams are flushed and the first ones put back, the module is given up
    so that `__del__` runs, streams are flushed again. A stream that cannot be flushed makes the exit status 120.
    """
    try:
        if (threading := sys.modules.get("threading")) is not None:
            threading._shutdown()
    except SystemExit as ended:
        status = exit_status(ended.code)
    except BaseException as error:
        show(error)
    atexit._run_exitfuncs()
    broken = not flush()
    _kept.extend(map(sys.__dict__.get, ("argv", "path", "meta_path")))  # given up, but not freed
    sys.argv = sys.path = sys.meta_path = None  # type: ignore[assignment]
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, name, getattr(sys, f"__{name}__", None))
    # Its names live on as long as a function or a finalizer knows them; what is left then goes in the usual order.
    module = weak_reference(modules[0])
    if sys.modules.get("__main__") is modules[0]:
        del sys.modules["__main__"]
    modules.clear()
    # Objects in cycles have finalizers too. As long as nothing was ever collected, all are of the youngest kind.
    gc.collect(0 if gc.get_stats() == before else 2)
    if (left := module()) is not None:
        names = left.__dict__
        for private in (True, False):
            for name in list(names):
                if name != "__builtins__" and (name[:1] == "_" and name[:2] != "__") == private:
                    names[name] = None
        gc.collect(2)
    broken |= not flush(silent=True)
    if status == INTERRUPTED:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        os.kill(os.getpid(), _signal.SIGINT)
    os._exit(120 if broken else status)


def flush(silent: bool = False) -> bool:
    """Whether both streams could be flushed. One word about stdout, but none that `silent` ends."""
    fine = True
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        try:
            closed = bool(getattr(stream, "closed", False))
        except BaseException:
            closed = False
        try:
            if stream is not None and not closed:
                stream.flush()
        except BaseException as error:
            fine = False
            if not silent and name == "stdout":
                with suppress(BaseException):
                    print(f"Exception ignored in: {stream!r}", file=sys.stderr)
                    sys.__excepthook__(type(error), error, hide_ours(error))
    return fine


def find(module: ModuleType, entry_point: str, given: dict[str, Any]) -> Any:
    """`name`, `Class.name`, or a method of `Solution` as LeetCode has it; never one of the names `given` by us."""
    owner, _, name = entry_point.rpartition(".")
    if owner:
        return getattr(getattr(module, owner)(), name)
    names = module.__dict__
    if name in names and names[name] is not given.get(name, NotImplemented):
        return names[name]
    if "Solution" in names:
        return getattr(names["Solution"](), name)
    raise NameError(f"name {name!r} is not defined")


def plain(value: Any, nested_tuples: bool = True, depth: int = 0) -> Any:
    """`value` as JSON values only; TypeError for all else. Subclasses are read by their base's methods, not their own.

    LiveCodeBench compares with `==`, where a tuple inside a list equals nothing: `nested_tuples=False`.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if depth > 200:
        raise TypeError("nested too deeply")
    kind = type(value)
    if issubclass(kind, int):
        return int.__add__(value, 0)
    if issubclass(kind, float):
        return float.__add__(value, 0.0)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, list) or (issubclass(kind, tuple) and (nested_tuples or depth == 0)):
        items = (list if issubclass(kind, list) else tuple).__iter__(value)
        return [plain(item, nested_tuples, depth + 1) for item in items]
    if issubclass(kind, dict) and all(type(key) is str for key in dict.keys(value)):
        return {key: plain(item, nested_tuples, depth + 1) for key, item in dict.items(value)}
    raise TypeError(f"a value of type {kind.__name__} is not JSON")


def write_all(content: bytes, fd: int = REPORT) -> None:
    written = os.write(fd, content)
    while written < len(content):
        written += os.write(fd, content[written : written + (1 << 20)])


def preamble() -> dict[str, Any]:
    """The names that function-style programs find; made once, by the zygote."""
    if not _given:
        exec(PREAMBLE, _given)
    return _given


_given: dict[str, Any] = {}


def run_function(code: Any, folder: str, entry_point: str, arguments: list[Any]) -> None:
    encode = json.JSONEncoder(ensure_ascii=True).encode
    module = new_module("solution", folder)
    given = {**preamble(), **module.__dict__}
    module.__dict__.update(given)
    try:
        exec(code, module.__dict__)
        result = find(module, entry_point, given)(*arguments)
        try:
            answer = encode({"result": plain(result)})
        except TypeError as error:
            answer = encode({"not_json": str(error)})
    except BaseException as error:
        # sys.exit() instead of an answer is a runtime error, whatever its code.
        show(error)
        sys.stderr.flush()
        os._exit(1)
    write_all(answer.encode() + b"\n")
    os._exit(0)


# --- asserts -----------------------------------------------------------------------------------------------------

# Only the end of the tests may send the token, and the program runs in the same process. So the token is kept where
# Python cannot look: on the stack of an expression that is being evaluated, in no variable and no container. All else
# that the expression needs are constants of its code, which cannot be exchanged either while the program runs; it is
# one line, so that a trace function has nowhere to jump to. The process's id at the end is sent too: a fork of the
# program that happened to guess right is not the program. (ctypes can read any memory: see docs/judge.md.)
LAST_WORD = (
    "'write'('report', b''.join(('pread'('payload', 'size', 'at'), 'close'('payload') or b' ', "
    "'exec'('program', 'names') or b'', 'exec'('tests', 'names') or b'', 'str'('getpid'()).encode())))"
)
TOKEN_BYTES = 32
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # "'str' object is not callable": not before the constants are filled in
    _last_word = compile(LAST_WORD, __file__, "eval")


def run_asserts(program: Any, folder: str, at: int, size: int) -> None:
    """The program, then the tests in the same names; at the very end the token, which only the tests' end sends."""
    module = new_module("solution", folder)
    test_code = read_at(at + TOKEN_BYTES, size - TOKEN_BYTES)
    filled = {
        "write": os.write,
        "report": REPORT,
        "pread": os.pread,
        "payload": PAYLOAD,
        "size": TOKEN_BYTES,
        "at": at,
        "close": os.close,
        "exec": exec,
        "program": program,
        "names": module.__dict__,
        "tests": compile(on_one_line(test_code), "<tests>", "exec", dont_inherit=True),
        "str": str,
        "getpid": os.getpid,
    }
    constants = tuple(filled.get(c, c) if isinstance(c, str) else c for c in _last_word.co_consts)
    try:
        eval(_last_word.replace(co_consts=constants))
    except BaseException as error:
        line = line_of_tests(error.__traceback__)
        if type(error) is AssertionError and line is not None:
            write_all(json.dumps({"failed_line": line}).encode() + b"\n")
        show(error)
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def on_one_line(test_code: bytes) -> Any:
    """The tests' tree with all of it in line 1; the column holds the true line."""
    tree = sys.modules["ast"].parse(test_code, "<tests>")
    for node in sys.modules["ast"].walk(tree):
        if hasattr(node, "lineno"):
            node.col_offset = node.end_col_offset = node.lineno
            node.lineno = node.end_lineno = 1
    return tree


def line_of_tests(trace: Any) -> int | None:
    """The line of the tests in which an exception was raised; None if that was in the program. 0: not known."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_code.co_filename != "<tests>":
        return None
    code = trace.tb_frame.f_code
    if not hasattr(code, "co_positions"):  # before 3.11
        return 0
    return list(code.co_positions())[trace.tb_lasti // 2][2] or 0
