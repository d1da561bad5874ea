"""A row of every format, with a program that solves it and one that does not. A new format adds its entry here."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Example:
    row: dict[str, Any]
    right: str
    wrong: str


DOUBLE = "def double(x):\n    return 2 * x\n"
ASSERTION = """\
import numpy as np

def assertion(out, exp, atol):
    if out != exp:
        assert np.allclose(out, exp, rtol=1e-07, atol=atol)
"""

EXAMPLES = {
    "kiyas": Example(
        {
            "id": "double",
            "statement": "Double it.",
            "tests": [{"input": "21\n", "output": "42\n"}],
            "solutions": ["print(int(input()) * 2)"],
        },
        "print(2 * int(input()))",
        "print(int(input()))",
    ),
    "livecodebench": Example(
        {
            "question_id": "abc_1",
            "question_title": "Double",
            "question_content": "Double it.",
            "public_test_cases": json.dumps([{"input": "21\n", "output": "42\n", "testtype": "stdin"}]),
            "private_test_cases": json.dumps([{"input": "0\n", "output": "0\n", "testtype": "stdin"}]),
            "metadata": "{}",
            "platform": "atcoder",
            "difficulty": "easy",
            "contest_date": "2024-01-01",
        },
        "print(2 * int(input()))",
        "print(42)",
    ),
    "humaneval": Example(
        {
            "task_id": "HumanEval/0",
            "prompt": 'import math\n\n\ndef double(x):\n    """Double it."""\n',
            "canonical_solution": "    return 2 * x\n",
            "entry_point": "double",
            "test": "import math\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate(21) == 42\n",
        },
        DOUBLE,
        "def double(x):\n    return x\n",
    ),
    "humanevalplus": Example(
        {
            "task_id": "HumanEval/0",
            "prompt": 'def double(x):\n    """Double it."""\n',
            "canonical_solution": "    return 2 * x\n",
            "entry_point": "double",
            "test": f"{ASSERTION}\n\ndef check(candidate):\n    inputs = [[21], [-0.25]]\n    results = [42, -0.5]\n"
            "    for inp, exp in zip(inputs, results):\n        assertion(candidate(*inp), exp, 1e-6)\n",
        },
        DOUBLE,
        "def double(x):\n    return 2 * abs(x)\n",
    ),
    "mbpp": Example(
        {
            "task_id": 2,
            "text": "Write a function to double a number.",
            "code": DOUBLE,
            "test_list": ["assert double(21) == 42"],
            "test_setup_code": "",
            "challenge_test_list": [],
        },
        DOUBLE,
        "def double(x):\n    return x\n",
    ),
    "mbppplus": Example(
        {
            "task_id": 2,
            "code": DOUBLE,
            "prompt": "Write a function to double a number.",
            "source_file": "Benchmark Questions Verification V2.ipynb",
            "test_imports": [],
            "test_list": ["assert double(21) == 42"],
            "test": f"{ASSERTION}\ninputs = [[21], [-0.25]]\nresults = [42, -0.5]\n"
            "for inp, exp in zip(inputs, results):\n    assertion(double(*inp), exp, 1e-6)\n",
        },
        DOUBLE,
        "def double(x):\n    return 2 * abs(x)\n",
    ),
}
