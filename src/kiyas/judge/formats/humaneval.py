"""HumanEval: a function to complete; its test defines `check(candidate)`."""

from __future__ import annotations

import re
import sys

from .format import BadRowError, Format, Problem, Row, imported, parted, python3, syntax_tree, take

COLUMNS = ("task_id", "prompt", "entry_point", "test")
CHECK = re.compile(r"^(async[ \t]+)?def check\(", re.M)
INPUTS = re.compile(r"^[ \t]*inputs = ", re.M)
"""HumanEval+ has the same columns; its tests run through a list of inputs."""


def differs(row: Row) -> str:
    test = str(row["test"])
    if foreign := imported(test) - sys.stdlib_module_names:
        return f"its 'test' imports {', '.join(sorted(foreign))}"
    if not CHECK.search(test):
        return "its 'test' does not define check"
    return "its 'test' has a list of inputs" if INPUTS.search(test) else ""


def called(test: str, name: str) -> str:
    """The test code with the call of its `check`, without which nothing would be run."""
    check = CHECK.search(test)
    if check is not None and check[1]:
        return f"{test}\n\nimport asyncio\nasyncio.run(check({name}))\n"
    return f"{test}\n\ncheck({name})\n"


def problem(row: Row) -> Problem:
    name, prompt = take(row, "entry_point", str), take(row, "prompt", str, "")
    preamble, stub = parted(prompt, name.partition(".")[0].removesuffix("()"))
    if stub and syntax_tree(f"{prompt.rstrip()}\n    pass\n") is None and syntax_tree(prompt) is None:
        raise BadRowError("its 'prompt' is not Python 3", "leave out rows in other languages")
    # HumanEvalFix (arXiv:2308.07124): a faulty function to repair.
    faulty = take(row, "buggy_solution", str, "")
    given = take(row, "declaration", str, prompt) + faulty if faulty else ""
    task = f"Fix bugs in {name}." if given else "Complete the following Python function."
    return Problem(
        id=str(take(row, "task_id", (str, int))),
        tests=(),
        statement=prompt,
        # As usual for instruction-tuned models: the prompt alone is code to go on with.
        question=f"{task} Answer with the whole function.\n\n```python\n{(given or prompt).strip()}\n```",
        given=given,
        preamble=preamble,
        stub=stub,
        entry_point=name,
        test_code=called(take(row, "test", str), name),
        platform="humaneval",
    )


def solutions(row: Row) -> tuple[str, ...]:
    solution = take(row, "canonical_solution", str, "")
    return python3([take(row, "prompt", str, "") + solution]) if solution.strip() else ()


FORMAT = Format(
    name="humaneval",
    columns=COLUMNS,
    differs=differs,
    problem=problem,
    solutions=solutions,
    title="HumanEval",
    citation="""\
@misc{chen2021codex,
  author = {Chen, Mark and Tworek, Jerry and Jun, Heewoo and Yuan, Qiming and others},
  title = {Evaluating Large Language Models Trained on Code},
  year = {2021},
  eprint = {2107.03374},
  archiveprefix = {arXiv}
}""",
    hub_id="openai/openai_humaneval",
    hub_config="openai_humaneval",
)
