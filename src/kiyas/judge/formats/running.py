"""Test code that only defines tests, with the code that runs them: unittest's by its own runner, pytest's by ours.

Our runner calls what pytest would collect: functions `test*`, classes `Test*` with their `setup_method`, `setup_class`
and their likes, `parametrize` written out, subclasses of unittest's TestCase. What it does not do is refused by name:
fixtures, skips, expected failures, tests that are coroutines. The program can be imported as `solution`.
"""

from __future__ import annotations

import ast

from .format import BadRowError, syntax_tree

UNITTEST = """

import unittest as _unittest
def _run_unittest(cases):
    result = _unittest.TestResult()
    _unittest.defaultTestLoader.loadTestsFromTestCase(cases).run(result)
    assert result.testsRun > len(result.skipped) and result.wasSuccessful(), result.failures + result.errors
"""
PYTEST = """

def _cases(function):
    cases = [{}]
    for mark in getattr(function, "pytestmark", []):
        if mark.name == "parametrize":
            names, values = [*mark.args, mark.kwargs.get("argnames"), mark.kwargs.get("argvalues")][:2]
            listed = not isinstance(names, str)
            names = names if listed else [each.strip() for each in names.split(",") if each.strip()]
            rows = [getattr(value, "values") if type(value).__name__ == "ParameterSet" else
                    value if listed or len(names) > 1 else (value,) for value in values]
            cases = [{**case, **dict(zip(names, row, strict=True))} for case in cases for row in rows]
    return cases
def _run_function(function):
    for arguments in _cases(function):
        function(**arguments)
def _run_class(kind, names):
    getattr(kind, "setup_class", lambda: None)()
    for name in names:
        for arguments in _cases(getattr(kind, name)):
            instance = kind()
            method = getattr(instance, name)
            _set_up(instance, "setup_method", method)
            method(**arguments)
            _set_up(instance, "teardown_method", method)
    getattr(kind, "teardown_class", lambda: None)()
def _set_up(instance, name, method):
    function = getattr(instance, name, None)
    if function is not None:
        function(*[method][:function.__code__.co_argcount - 1])
"""
MARKS = ("skip", "skipif", "xfail", "usefixtures", "asyncio", "anyio")
HOOKS = ("setup_module", "teardown_module", "setup_function", "teardown_function", "pytest_generate_tests", "setup",
         "load_tests")  # fmt: skip


def run_unittest(test: str, name: str) -> str:
    """Test code with the class `name` of unittest, run."""
    return f"{test}{UNITTEST}_run_unittest({name})\n"


def run_pytest(test: str) -> str:
    """Test code in pytest's manner, run. Raises BadRowError for what is not run, and where there is no test."""
    tree = syntax_tree(test)
    if tree is None:
        return test  # refused where it is tried: it does not parse
    calls: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in HOOKS:
            raise _refused(f"defines {node.name}")
        if isinstance(node, ast.Assign) and "pytestmark" in ast.dump(node):
            raise _refused("sets pytestmark")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if _is_test(node):
                # As plain as possible: tests that only call functions can run apart from the program.
                calls.append(f"_run_function({node.name})" if node.decorator_list else f"{node.name}()")
        elif isinstance(node, ast.ClassDef) and any("TestCase" in ast.unparse(base) for base in node.bases):
            calls.append(f"_run_unittest({node.name})")
        elif isinstance(node, ast.ClassDef):
            functions = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            called = node.name.startswith("Test")
            if (node.bases or node.decorator_list) and (called or any(_named_test(each) for each in functions)):
                raise _refused(f"has a class {node.name} with a base or a decorator")
            names = [each.name for each in functions if called and _is_test(each, method=True)]
            if names and not any(each.name in ("__init__", "__new__") for each in functions):
                calls.append(f"_run_class({node.name}, {names})")
    if not calls:
        raise BadRowError("its test code has no test function or class that pytest would run")
    runners = {"_run_unittest": UNITTEST, "_run_function": PYTEST, "_run_class": PYTEST}
    needed = dict.fromkeys(runners[name] for call in calls if (name := call.partition("(")[0]) in runners)
    return "\n".join([f"{test}{''.join(needed)}", *calls]) + "\n"


def _named_test(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return function.name.startswith("test")


def _is_test(function: ast.FunctionDef | ast.AsyncFunctionDef, method: bool = False) -> bool:
    given, patched = set[str](), False
    for decorator in function.decorator_list:
        name = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
        patched = patched or "patch" in name
        if name.rpartition(".")[2] == "fixture":
            if "autouse" in ast.unparse(decorator):
                raise _refused(f"has a fixture that is always used, {function.name}")
            return False
        if name.rpartition(".")[2] in MARKS and "mark" in name:
            raise _refused(f"marks {function.name} as {name.rpartition('.')[2]}")
        if name.endswith("mark.parametrize") and isinstance(decorator, ast.Call):
            if any(keyword.arg == "indirect" for keyword in decorator.keywords):
                raise _refused(f"gives {function.name} its parameters indirectly")
            first = [*decorator.args, *(k.value for k in decorator.keywords if k.arg == "argnames")][:1]
            given |= {n.strip() for part in first for text in _texts(part) for n in text.split(",")}
    if not _named_test(function):
        return False
    if isinstance(function, ast.AsyncFunctionDef):
        raise _refused(f"has a coroutine, {function.name}")
    arguments = [each.arg for each in [*function.args.posonlyargs, *function.args.args][method:]]
    wanted = arguments[: len(arguments) - len(function.args.defaults)]
    if (fixtures := [name for name in wanted if name not in given]) and not patched:
        raise _refused(f"uses fixtures ({', '.join(fixtures)})")
    return True


def _texts(node: ast.expr) -> list[str]:
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def _refused(what: str) -> BadRowError:
    return BadRowError(f"its test code {what}, which only pytest itself can run", "leave this row out")
