"""Kıyas with one device forgotten. Runs in a process with the guard: see child.py."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path

import transformers  # noqa: F401 (loaded once, before the processes part)

ROOMS = ("model", "train", "generate")


class Forget(ast.NodeTransformer):
    """Takes away the n-th `device=...`, or `.to(...)` that names a device; n = -1 only finds them."""

    def __init__(self, n: int = -1) -> None:
        self.n, self.inside, self.found = n, "", list[str]()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        before, self.inside = self.inside, node.name
        self.generic_visit(node)
        self.inside = before
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        named = [each for each in node.keywords if each.arg == "device"]
        moves = isinstance(node.func, ast.Attribute) and node.func.attr == "to"
        moves = moves and any("device" in ast.unparse(each) for each in (*node.args, *node.keywords))
        if not (named or moves):
            return node
        self.found.append(f"{self.inside}:{node.lineno}")
        if len(self.found) - 1 != self.n:
            return node
        if moves:
            assert isinstance(node.func, ast.Attribute)
            return node.func.value
        node.keywords = [each for each in node.keywords if each.arg != "device"]
        return node


def places() -> list[tuple[Path, int, str]]:
    """Every device that can be forgotten where Kıyas computes: file, which in the file, function and line."""
    package = importlib.util.find_spec("kiyas")
    assert package is not None and package.origin is not None
    made = []
    for path in sorted(path for room in ROOMS for path in (Path(package.origin).parent / room).glob("*.py")):
        forget = Forget()
        forget.visit(ast.parse(path.read_text(encoding="utf-8")))
        made += [(path, n, f"{path.stem}.{where}") for n, where in enumerate(forget.found)]
    return made


def run(most: int) -> dict[str, str]:
    """Place → what shows that its device was forgotten, "" where nothing does; of at most so many, spread evenly.

    It shows by an error, or by other counts: an index of the host is legal, and copied.
    """
    every = places()
    taken = [every[(2 * i + 1) * len(every) // (2 * most)] for i in range(most)] if most < len(every) else every
    right = _apart(None, 0)
    assert right.startswith("counts"), right
    made = {name: _apart(path, n) for path, n, name in taken}
    return {name: "" if said == right else said for name, said in made.items()}


def _apart(path: Path | None, n: int) -> str:
    """The counts of the stages with that mutant, or the last line of what they raise, in a process of its own."""
    read, write = os.pipe()
    if pid := os.fork():
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as pipe:
            said = pipe.read()
        os.waitpid(pid, 0)
        return said
    try:
        said = _stages(path, n)
    except BaseException:  # noqa: BLE001 (told to the parent)
        said = traceback.format_exc().strip().splitlines()[-1]
    os.write(write, said.encode())
    os._exit(0)


def _stages(mutated: Path | None, n: int) -> str:
    assert not any(name.startswith("kiyas") for name in sys.modules)
    get_code = SourceFileLoader.get_code

    def mutant(loader: SourceFileLoader, name: str) -> object:
        if mutated is None or Path(loader.get_filename(name)) != mutated:
            return get_code(loader, name)
        tree = Forget(n).visit(ast.parse(mutated.read_text(encoding="utf-8")))
        return compile(ast.fix_missing_locations(tree), mutated, "exec")

    SourceFileLoader.get_code = mutant  # type: ignore[assignment,method-assign]
    import on_shadow

    # Packed in float16, with sliding windows; padded; a long row read apart.
    counts = [on_shadow.stages_alone("gemma3", "float16"), on_shadow.stages_alone("gpt_neo"), on_shadow.runaway()]
    if mutated is not None and mutated.stem == "meter":
        assert on_shadow.measured()["counts"]["launches"] > 1000, "check has measured something else"
    indices = [sum(n for name, n in each["where"]["copies"].items() if name.startswith("index ")) for each in counts]
    return "counts " + " ".join(f"{each['waits']} {each['copies']}" for each in counts) + f" indices {indices}"
