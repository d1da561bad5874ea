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
    "bigcodebench": Example(
        {
            "task_id": "BigCodeBench/0",
            "complete_prompt": 'import json\n\ndef task_func(x):\n    """Double it, as JSON."""\n',
            "instruct_prompt": "Write task_func(x): twice x, as JSON. Start with `import json`.",
            "canonical_solution": "    return json.dumps(2 * x)\n",
            "code_prompt": "import json\n\ndef task_func(x):\n",
            "test": "import unittest\n\nclass TestCases(unittest.TestCase):\n    def test_one(self):\n"
            "        self.assertEqual(task_func(21), '42')\n    def test_two(self):\n"
            "        self.assertEqual(task_func(-1), '-2')\n",
            "entry_point": "task_func",
            "doc_struct": "{}",
            "libs": "['json']",
        },
        "import json\ndef task_func(x):\n    return json.dumps(x + x)\n",
        "import json\ndef task_func(x):\n    return json.dumps(2 * abs(x))\n",
    ),
    "apps": Example(
        {
            "problem_id": 1,
            "question": "Double it.",
            "solutions": json.dumps(["print 2 * int(raw_input())", "print(2 * int(input()))"]),
            "input_output": json.dumps({"inputs": ["21\n", ["0", ""]], "outputs": ["42\n", ["0"]]}),
            "difficulty": "interview",
            "url": "u",
            "starter_code": "",
        },
        "print(2 * int(input()))",
        "print(42)",
    ),
    "taco": Example(
        {
            "question": "Double it.",
            "solutions": json.dumps(["class Solution:\n    def double(self, x):\n        return 2 * x\n"]),
            "starter_code": "class Solution:\n    def double(self, x):\n",
            "input_output": json.dumps({"fn_name": "double", "inputs": [[21], [-1]], "outputs": [[42], [-2]]}),
            "difficulty": "EASY",
            "raw_tags": "['Math']",
            "name": None,
            "source": "geeksforgeeks",
            "tags": "['Mathematics']",
            "skill_types": "['Data structures']",
            "url": "u",
            "Expected Auxiliary Space": "O(1)",
            "time_limit": "1.0 seconds",
            "memory_limit": "256.0 megabytes",
        },
        DOUBLE,
        "def double(x):\n    return 2 * abs(x)\n",
    ),
    "codecontests": Example(
        {
            "name": "1_A. Double",
            "description": "Double it.",
            "public_tests": {"input": ["21\n"], "output": ["42\n"]},
            "private_tests": {"input": ["0\n"], "output": ["0\n"]},
            "generated_tests": {"input": ["-1\n"], "output": ["-2\n"]},
            "source": 2,
            "difficulty": 7,
            "solutions": {
                "language": [1, 2, 3],
                "solution": ["print 2 * int(raw_input())", "int main() {}", "print(2 * int(input()))"],
            },
            "incorrect_solutions": {"language": [], "solution": []},
            "cf_rating": 800,
            "cf_tags": ["math"],
            "time_limit": {"seconds": 2, "nanos": 500000000},
            "memory_limit_bytes": 256000000,
            "input_file": "",
            "output_file": "",
        },
        "print(2 * int(input()))",
        "print(2 * abs(int(input())))",
    ),
    "codeforces": Example(
        {
            "id": "1/A",
            "contest_id": "1",
            "title": "Any divisor",
            "description": "Print a divisor.",
            "input_format": "A number.",
            "output_format": "A divisor of it.",
            "interaction_format": None,
            "note": None,
            "examples": [{"input": "6", "output": "2"}],
            "rating": 800,
            "tags": ["math"],
            "time_limit": 1.0,
            "memory_limit": 256.0,
            "official_tests": [{"input": "6\n", "output": "2\n"}, {"input": "35\n", "output": "5\n"}],
            "official_tests_complete": True,
            "input_mode": "stdio",
            "generated_checker": "import sys\n\ndef main():\n"
            "    given, wanted, got = (open(path).read().split() for path in sys.argv[1:])\n"
            "    print(0 if len(got) != 1 or int(got[0]) < 1 else int(int(given[0]) % int(got[0]) == 0))\n\n"
            "if __name__ == '__main__':\n    main()\n",
            "executable": True,
        },
        "print(int(input()))",
        "print(2)",
    ),
    "verifiable": Example(
        {
            "source": "apps",
            "task_type": "verifiable_code",
            "in_source_id": "1",
            "prompt": "Double it.",
            "gold_standard_solution": "```python\nprint(2 * int(input()))\n```",
            "verification_info": json.dumps(
                {
                    "language": "python",
                    "test_cases": [
                        {"fn_name": None, "type": "stdin_stdout", "input": "21\n", "output": "42\n"},
                        {"fn_name": None, "type": "stdin_stdout", "input": "-1\n", "output": "-2\n"},
                    ],
                }
            ),
            "metadata": "{}",
            "problem_id": "vcp_1",
        },
        "print(2 * int(input()))",
        "print(2 * abs(int(input())))",
    ),
    "leetcodedataset": Example(
        {
            "task_id": "double",
            "question_id": 1,
            "difficulty": "Easy",
            "tags": ["Math"],
            "problem_description": "Double it.",
            "starter_code": "class Solution:\n    def double(self, xs: List[int]) -> List[int]:\n        ",
            "estimated_date": "2024-01-01",
            "prompt": "from typing import *\n\ndef same(a, b):\n    return a == b\n",
            "completion": "class Solution:\n    def double(self, xs: List[int]) -> List[int]:\n"
            "        return [2 * x for x in xs]\n",
            "entry_point": "Solution().double",
            "test": "def check(candidate):\n    assert same(candidate(xs = [21, -1]), [42, -2])\n",
            "input_output": [{"input": "xs = [21, -1]", "output": "[42, -2]"}],
            "query": "q",
            "response": "r",
        },
        "class Solution:\n    def double(self, xs: List[int]) -> List[int]:\n        return [x + x for x in xs]\n",
        "class Solution:\n    def double(self, xs: List[int]) -> List[int]:\n        return xs\n",
    ),
    "kodcode": Example(
        {
            "version": "v1.0",
            "style": "instruct",
            "subset": "Algorithm",
            "question_id": "Algorithm_1_I",
            "question": "Double it.",
            "solution": DOUBLE,
            "test": "from solution import double\n\ndef test_double():\n    assert double(21) == 42\n\n"
            "class TestMore:\n    def setup_method(self):\n        self.x = -1\n\n"
            "    def test_negative(self):\n        assert double(self.x) == -2\n",
            "test_info": [{"function_name": "double", "function_declaration": "def double(x):"}],
            "gpt_difficulty": "easy",
        },
        DOUBLE,
        "def double(x):\n    return 2 * abs(x)\n",
    ),
    "deepcoder": Example(
        {
            "problem": "Double it.",
            "solutions": ["```python\nprint(2 * int(input()))\n```"],
            "tests": json.dumps(
                [
                    {"type": "stdin_stdout", "input": "21\n", "output": "42\n"},
                    {"type": "stdin_stdout", "input": "-1\n", "output": "-2\n"},
                ]
            ),
        },
        "print(2 * int(input()))",
        "print(2 * abs(int(input())))",
    ),
}
