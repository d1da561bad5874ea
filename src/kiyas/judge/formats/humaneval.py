"""HumanEval: a function to complete; its test defines `check(candidate)`."""

from __future__ import annotations

import re
import sys

from .format import Format, Problem, Row, imported, python3, take

COLUMNS = ("task_id", "prompt", "entry_point", "test")
CHECK = re.compile(r"^def check\(", re.M)
INPUTS = re.compile(r"^[ \t]*inputs = ", re.M)
"""HumanEval+ has the same columns; its tests run through a list of inputs."""


def differs(row: Row) -> str:
    test = str(row["test"])
    if foreign := imported(test) - sys.stdlib_module_names:
        return f"its 'test' imports {', '.join(sorted(foreign))}"
    if not CHECK.search(test):
        return "its 'test' does not define check"
    return "its 'test' has a list of inputs" if INPUTS.search(test) else ""


def problem(row: Row) -> Problem:
    name, prompt = take(row, "entry_point", str), take(row, "prompt", str, "")
    before, asked, _ = prompt.partition(f"def {name}(")
    return Problem(
        id=str(take(row, "task_id", (str, int))),
        tests=(),
        statement=prompt,
        # As usual for instruction-tuned models: the prompt alone is code to go on with.
        question="Complete the following Python function. Answer with the whole function.\n\n"
        f"```python\n{prompt.strip()}\n```",
        preamble=before if asked else "",
        entry_point=name,
        test_code=f"{take(row, 'test', str)}\n\ncheck({name})\n",
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
