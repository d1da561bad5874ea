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
    plain,
    read_at,
    write_all,
)

TYPE_CHECKING = False  # `typing` itself would cost every fork
if TYPE_CHECKING:
    from typing import Any


class TimeoutException(Exception):
    """The name matters: LiveCodeBench looks for it in the exception's repr."""


def run(entry_point: str | None, sizes: tuple[int, int, int], time_limit: float) -> None:
    """Never returns."""
    import ast
    import faulthandler  # noqa: F401  (imported there too: programs may rely on it)
    import signal
    import traceback
    from time import perf_counter, process_time
    from unittest.mock import mock_open, patch

    in_source, in_code, in_extra = sizes
    source, extra = read_at(0, in_source), read_at(in_source + in_code, in_extra)
    os.close(PAYLOAD)
    text, inputs = source.decode("utf-8", "surrogatepass"), json.loads(extra)
    write = write_all
    encode = json.JSONEncoder(ensure_ascii=True).encode

    def on_alarm(number: int, frame: Any) -> None:
        print("timeout occured: alarm went off")
        raise TimeoutException

    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGPROF, on_alarm)

    def arm(seconds: float) -> None:
        # CPU time decides; wall time only as a backstop.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, 3 * seconds + 2 if seconds else 0)

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

    def build(code: str) -> Any:
        arm(time_limit)
        try:
            module = ModuleType("tmp_sol", "")
            exec(code, module.__dict__)
            return module.Solution() if "class Solution" in code else module
        finally:
            arm(0)

    def call_stdio(function: Any, given: str) -> None:
        lines = iter(given.split("\n"))
        with (
            patch("builtins.open", mock_open(read_data=given)),
            patch("sys.stdin", io.StringIO(given)),
            patch("sys.stdin.readline", lambda *a: next(lines)),
            patch("sys.stdin.readlines", lambda *a: given.split("\n")),
            patch("sys.stdin.read", lambda *a: given),
            suppress(SystemExit),
        ):
            function()

    def failure(error: BaseException) -> dict[str, Any]:
        timed_out = "timeoutexception" in repr(error).lower()
        lines = "".join(traceback.format_exception_only(type(error), error))
        return {"error": lines[-2000:], "timeout": timed_out}

    disable_functions()
    try:
        code = PREAMBLE + "\nsys.setrecursionlimit(50000)\n\n\n" + text if entry_point else wrap(text)
        try:
            compile(code, "<string>", "exec")
        except BaseException as error:
            does_not_compile(error)
            os._exit(0)
        write(b"C" + NOTHING)
        built = build(code)
        method = getattr(built, entry_point or "wrapped_function")
    except BaseException as error:
        write(encode({"i": 0, **failure(error)}).encode() + b"\n")
        os._exit(0)
    for i, given in enumerate(inputs):
        answer: dict[str, Any] = {"i": i}
        began = process_time(), perf_counter()
        real_stdout = sys.stdout
        try:
            if entry_point:
                arguments = [json.loads(line) for line in given.split("\n")]
                arm(time_limit)
                result = method(*arguments)
                arm(0)
                try:
                    answer["result"] = plain(result, nested_tuples=False)
                except TypeError as error:
                    answer["not_json"] = str(error)
            else:
                sys.stdout = captured = io.StringIO()
                captured.close = lambda *a: None  # type: ignore[method-assign]
                arm(time_limit)
                call_stdio(method, given)
                arm(0)
                answer["out"] = captured.getvalue()
        except BaseException as error:  # SystemExit in function mode ends LiveCodeBench's own process: a failure
            arm(0)
            answer.update(failure(error))
        finally:
            arm(0)
            sys.stdout = real_stdout
        answer["cpu_s"], answer["wall_s"] = process_time() - began[0], perf_counter() - began[1]
        write(encode(answer).encode() + b"\n")
        if "error" in answer:
            break
    os._exit(0)


DISABLED = """kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames truncate
replace unlink fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir"""


def disable_functions() -> None:
    """The names LiveCodeBench's `reliability_guard` sets to None, so that programs fail on them as they do there."""
    import shutil
    import subprocess

    os.environ["OMP_NUM_THREADS"] = "1"
    setattr(builtins, "quit", None)  # noqa: B010
    for name in DISABLED.split():
        setattr(os, name, None)
    for name in ("rmtree", "move", "chown"):
        setattr(shutil, name, None)
    setattr(subprocess, "Popen", None)  # noqa: B010
    for name in ("ipdb", "joblib", "resource", "psutil", "tkinter"):
        sys.modules[name] = None  # type: ignore[assignment]
