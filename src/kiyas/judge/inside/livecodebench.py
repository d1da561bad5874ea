"""LiveCodeBench's way to run a program: every test in this one process, with its mock streams and its imports."""

# A program may raise anything at all.
# ruff: noqa: BLE001, N818
from __future__ import annotations

import builtins
import io
import json
import os
import sys
from contextlib import suppress
from types import ModuleType

from runner import (  # type: ignore[import-not-found,unused-ignore]
    NOTHING,
    PAYLOAD,
    PREAMBLE,
    does_not_compile,
    read_at,
    write_all,
)

TYPE_CHECKING = False  # `typing` itself would cost every fork
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class TimeoutException(Exception):
    """The name matters: LiveCodeBench looks for it in the exception's repr."""


class Stdin:
    """Its `sys.stdin`, as of its commit 28fef95: no iterator, no context manager; `read` always gives all of it."""

    def __init__(self, given: str) -> None:
        self.given, self.lines, self.buffer = given, io.StringIO(given), Buffer(given.encode())

    def read(self, *_: Any) -> str:
        return self.given

    def readline(self, *size: int) -> str:
        return self.lines.readline(*size)

    def readlines(self, *_: Any) -> list[str]:
        return self.given.split("\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lines, name)


class Buffer:
    """Its `sys.stdin.buffer`: these two methods, and `readline` always gives the first line."""

    def __init__(self, given: bytes) -> None:
        self.given = given

    def read(self, *_: Any) -> bytes:
        return self.given

    def readline(self, *_: Any) -> bytes:
        return self.given.split(b"\n")[0] + b"\n"


def run(entry_point: str | None, sizes: tuple[int, int, int], time_limit: float) -> None:
    """Never returns."""
    import ast
    import faulthandler
    import signal
    import traceback
    from time import perf_counter, process_time

    in_source, in_code, in_extra = sizes
    source, extra = read_at(0, in_source), read_at(in_source + in_code, in_extra)
    os.close(PAYLOAD)
    text, inputs = source.decode("utf-8", "surrogatepass"), json.loads(extra)
    write = write_all
    encode = json.JSONEncoder(ensure_ascii=True).encode

    cpu_end = wall_end = 0.0

    def on_alarm(number: int, frame: Any) -> None:
        left = min(cpu_end - process_time(), wall_end - perf_counter())
        if left > 0:
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.005))
            return
        print("timeout occured: alarm went off")
        raise TimeoutException

    signal.signal(signal.SIGALRM, on_alarm)

    def arm(seconds: float) -> None:
        # CPU time decides; wall time only as a backstop. A timer of CPU time would signal the thread that runs, and
        # the main thread, which waits for it, would not wake to handle the signal.
        nonlocal cpu_end, wall_end
        cpu_end, wall_end = process_time() + seconds, perf_counter() + 3 * seconds + 2
        signal.setitimer(signal.ITIMER_REAL, seconds)

    unparse: Any = ast.unparse  # takes lists too, whatever its signature says

    def wrap(code: str) -> str:
        """A main guard at the very end is opened; all but the imports becomes the body of one function."""
        try:
            tree = ast.parse(code)
            last = tree.body[-1]
            if isinstance(last, ast.If) and ast.unparse(last.test).strip() == "__name__ == '__main__'":
                code = unparse(tree.body[:-1]) + "\n" + unparse(last.body)
        except Exception:
            code = str(code)
        try:
            tree = ast.parse(code)
            imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
            others = [node for node in tree.body if not isinstance(node, (ast.Import, ast.ImportFrom))]
            no_arguments = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
            function = ast.FunctionDef(
                name="wrapped_function", args=no_arguments, body=others, decorator_list=[], lineno=-1
            )
            start = PREAMBLE + "\nsys.setrecursionlimit(50000)\n"
            return str(start + "\n" + unparse(imports) + "\n" + ast.unparse(function))
        except Exception:
            return code

    def build(code: str, compiled: Any) -> Any:
        arm(time_limit)
        try:
            module = ModuleType("tmp_sol", "")
            exec(compiled, module.__dict__)
            return module.Solution() if "class Solution" in code else module
        finally:
            arm(0)

    def call_stdio(function: Any, given: str) -> None:
        lines = iter(given.split("\n"))
        real: Any = sys.stdin
        # LiveCodeBench means to patch these of the stream below; they hit the real one (`from sys import stdin`).
        real.readline, real.readlines = lambda *a: next(lines), lambda *a: given.split("\n")
        real.read = lambda *a: given
        setattr(sys, "stdin", Stdin(given))  # noqa: B010
        real_open = builtins.open
        setattr(builtins, "open", mocked_open(given))  # noqa: B010
        with suppress(SystemExit):
            function()
        setattr(sys, "stdin", real)  # noqa: B010
        setattr(builtins, "open", real_open)  # noqa: B010

    def failure(error: BaseException) -> dict[str, Any]:
        timed_out = "timeoutexception" in repr(error).lower()
        lines = "".join(traceback.format_exception_only(type(error), error))
        return {"error": lines[-2000:], "timeout": timed_out}

    replace_streams()
    for name in LOADED:
        if name.partition(".")[0] in text:
            with suppress(Exception):
                __import__(name)
    disable_functions()
    try:
        code = PREAMBLE + "\nsys.setrecursionlimit(50000)\n\n\n" + text if entry_point else wrap(text)
        try:
            compiled = compile(code, "<string>", "exec", dont_inherit=True)
        except BaseException as error:
            does_not_compile(error)
            os._exit(0)
        write(b"C" + NOTHING)
        built = build(code, compiled)
        method = getattr(built, entry_point or "wrapped_function")
    except BaseException as error:
        write(encode({"i": 0, **failure(error)}).encode() + b"\n")
        os._exit(0)
    for i, given in enumerate(inputs):
        answer: dict[str, Any] = {"i": i}
        began = process_time(), perf_counter()
        real_stdout = sys.stdout
        try:
            faulthandler.enable()
            if entry_point:
                arguments = [json.loads(line) for line in given.split("\n")]
                arm(time_limit)
                result = method(*arguments)
                arm(0)
                try:
                    answer["result"] = as_json(list(result) if isinstance(result, tuple) else result)
                except TypeError as error:
                    answer["not_json"] = str(error)
            else:
                sys.stdout = captured = io.StringIO()
                setattr(captured, "close", lambda x: 1)  # noqa: B010  (it cannot be called: so it is there)
                arm(time_limit)
                call_stdio(method, given)
                arm(0)
                answer["out"] = captured.getvalue()
        except BaseException as error:  # SystemExit in function mode ends LiveCodeBench's own process: a failure
            arm(0)
            answer.update(failure(error))
        finally:
            arm(0)
            faulthandler.disable()
            sys.stdout = real_stdout
        answer["cpu_s"], answer["wall_s"] = process_time() - began[0], perf_counter() - began[1]
        write(encode(answer).encode() + b"\n")
        if "error" in answer:
            break
    os._exit(0)


def mocked_open(given: str) -> Callable[..., Any]:
    """Its `builtins.open`, made when first called: most programs have the real one, by their star imports."""
    made: list[Any] = []

    def opened(*args: Any, **kwargs: Any) -> Any:
        if not made:
            from unittest.mock import mock_open

            made.append(mock_open(read_data=given))
        return made[0](*args, **kwargs)

    return opened


def as_json(value: Any, depth: int = 0) -> Any:
    """The JSON value that is `==` to this one, as LiveCodeBench asks for no more; TypeError where there is none."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if depth > 200:
        raise TypeError("nested too deeply")
    if kind is list:
        return [as_json(item, depth + 1) for item in value]
    if kind is dict and all(isinstance(key, str) for key in value):
        return {str.__str__(key): as_json(item, depth + 1) for key, item in value.items()}
    # IntEnum, Decimal, complex, Counter, UserList …
    of_sized = (list, dict) if hasattr(kind, "__len__") else ()
    for convert in (int, float, lambda number: number.real, str.__str__, *of_sized):
        with suppress(Exception):
            converted = convert(value)
            if type(converted) is not kind and value == converted:
                return as_json(converted, depth + 1)
    raise TypeError(f"a value of type {kind.__name__} is not JSON")


# What LiveCodeBench's process has imported before, and could not import any more without the functions below.
LOADED = ("concurrent.futures.process", "multiprocessing", "numpy", "pandas", "scipy")
DISABLED = """kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames truncate
replace unlink fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir"""


def replace_streams() -> None:
    """As a process of `multiprocessing` has them; what goes to the real stdout is of no interest."""
    if sys.stdin is not None:
        sys.stdin.close()
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def disable_functions() -> None:
    """The names LiveCodeBench's `reliability_guard` sets to None, so that programs fail on them as they do there."""
    import shutil
    import subprocess

    os.environ["OMP_NUM_THREADS"] = "1"
    with suppress(AttributeError):  # before 3.10.7
        sys.set_int_max_str_digits(50_000)
    for name in ("quit", "help"):
        setattr(builtins, name, None)
    for name in DISABLED.split():
        setattr(os, name, None)
    for name in ("rmtree", "move", "chown"):
        setattr(shutil, name, None)
    setattr(subprocess, "Popen", None)  # noqa: B010
    for name in ("ipdb", "joblib", "resource", "psutil", "tkinter"):
        sys.modules[name] = None  # type: ignore[assignment]
