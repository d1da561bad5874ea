"""The last of our code that runs before the program's: three ways to run one (`livecodebench.py` has the fourth).

The process has already given up its rights. Descriptor 3 is the report, 4 the payload (the program and, after it,
what its way of running needs). First byte of the report: `C` the program compiles, `E` it does not (the reason
follows), `S` the sandbox could not be set up. Whatever comes after `C` was written in the program's own process and
is believed as little as its stdout: it can only ever be compared with an expected value it has never seen.
"""

# A program may raise anything at all.
# ruff: noqa: PTH118, PTH123, BLE001
import builtins
import json
import os
import sys
import traceback
from contextlib import suppress
from types import ModuleType
from typing import Any

REPORT, PAYLOAD = 3, 4
# What LeetCode-style problems expect to be imported, as LiveCodeBench does it.
STARS = "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys"
PLAIN = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
)
PREAMBLE = "\n".join(
    [f"from {name} import *" for name in [*STARS.split(), "json", "builtins", "typing"]]
    + [f"import {name}" for name in PLAIN.split()]
)


def run(kind: str, folder: str, entry_point: str | None) -> None:
    """Never returns."""
    source, extra = read_payload()
    path = os.path.join(folder, "main.py")
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(source)
        code = compile(source, path, "exec", dont_inherit=True)
    except BaseException as error:
        does_not_compile(error)
        os._exit(1)
    os.write(REPORT, b"C")
    if kind == "script":
        os.close(REPORT)
        run_script(code, path, folder)
    elif kind == "function":
        run_function(code, path, folder, entry_point or "", json.loads(extra))
    else:
        run_asserts(code, path, folder, json.loads(extra))


def does_not_compile(error: BaseException) -> None:
    write_all(("E" + "".join(traceback.format_exception_only(type(error), error))).encode("utf-8", "replace"))


def read_payload() -> tuple[bytes, bytes]:
    size = os.fstat(PAYLOAD).st_size
    content = b""
    while len(content) < size:
        chunk = os.pread(PAYLOAD, size - len(content), len(content))
        if not chunk:
            break
        content += chunk
    os.close(PAYLOAD)
    length = int.from_bytes(content[:8], "big")
    return content[8 : 8 + length], content[8 + length :]


def fresh_streams() -> None:
    """Text streams as a started script has them: strict UTF-8, stdout buffered in blocks (it is a pipe)."""
    sys.stdin = open(0, encoding="utf-8", errors="strict", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="strict", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, f"__{name}__", getattr(sys, name))


def fresh_builtins() -> None:
    """`exit` and its friends, which the module `site` would have added."""
    site = sys.modules.get("site")
    if site is not None and not hasattr(builtins, "exit"):
        site.setquit()
        site.setcopyright()
        site.sethelper()


def new_module(name: str, path: str, folder: str) -> ModuleType:
    module = ModuleType(name)
    module.__dict__["__file__"] = path
    module.__dict__["__builtins__"] = builtins
    sys.modules[name] = module
    sys.path.insert(0, folder)
    return module


def show(error: BaseException) -> None:
    """The traceback as the interpreter prints it, without our own frames."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    BaseException.with_traceback(error, trace)
    sys.excepthook(type(error), error, trace)


def run_script(code: Any, path: str, folder: str) -> None:
    module = new_module("__main__", path, folder)
    status = 0
    try:
        exec(code, module.__dict__)
    except SystemExit as ended:
        status = exit_status(ended.code)
    except BaseException as error:
        show(error)
        status = 1
    end_interpreter(module, status)


def exit_status(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return int(code) & 0xFF
    with suppress(Exception):
        print(code, file=sys.stderr)
    return 1


def end_interpreter(module: ModuleType, status: int) -> None:
    """What the interpreter does at its end, in its order, but for our own objects: not one page of theirs is touched.

    Threads are joined, atexit functions run, streams are flushed, the program's names are cleared so that `__del__`
    runs, streams are flushed again. A stream that cannot be flushed makes the exit status 120.
    """
    try:
        sys.modules["threading"]._shutdown()
    except SystemExit as ended:
        status = exit_status(ended.code)
    except BaseException as error:
        show(error)
    sys.modules["atexit"]._run_exitfuncs()
    broken = not flush()
    names = module.__dict__
    for private in (True, False):
        for name in list(names):
            if name != "__builtins__" and (name[:1] == "_" and name[:2] != "__") == private:
                names[name] = None
    sys.modules["gc"].collect()
    broken |= not flush()
    os._exit(120 if broken else status)


def flush() -> bool:
    fine = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except BaseException as error:
            fine = False
            with suppress(BaseException):
                show(error)
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


def write_all(content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(REPORT, view) :]


def run_function(code: Any, path: str, folder: str, entry_point: str, arguments: list[Any]) -> None:
    encode = json.JSONEncoder(ensure_ascii=True).encode
    module = new_module("solution", path, folder)
    exec(PREAMBLE, module.__dict__)
    module.__dict__["__name__"] = "solution"
    given = dict(module.__dict__)
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


def run_asserts(code: Any, path: str, folder: str, extra: dict[str, Any]) -> None:
    """The program, then the tests in the same names; at the very end the token, which only the tests' end sends."""
    module = new_module("__main__" if extra.get("as_main") else "solution", path, folder)
    try:
        exec(code, module.__dict__)
        tests = compile(extra["test_code"], "<tests>", "exec", dont_inherit=True)
    except BaseException as error:
        show(error)
        sys.stderr.flush()
        os._exit(1)
    try:
        exec(tests, module.__dict__)
    except BaseException as error:
        innermost = error.__traceback__
        while innermost is not None and innermost.tb_next is not None:
            innermost = innermost.tb_next
        in_tests = innermost is not None and innermost.tb_frame.f_code.co_filename == "<tests>"
        if type(error) is AssertionError and in_tests:
            write_all(b'{"failed": true}\n')
        show(error)
        sys.stderr.flush()
        os._exit(1)
    write_all(json.dumps({"token": extra["token"]}).encode() + b"\n")
    os._exit(0)
