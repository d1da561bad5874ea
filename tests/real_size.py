"""A Hub with everything that the presets fetch, of the size that the real ones have; what it says is made up.

Shapes are the real ones: 5,000 rows a data set, with statements, solutions and reasoning of about the real length;
the contests of LiveCodeBench's release_v5 with their dates; HumanEval's 164 and MBPP's 257 problems. The private tests
of LiveCodeBench are packed as there, but small: test_release.py is about large ones.
"""

from __future__ import annotations

import base64
import datetime
import json
import pickle
import random
import zlib
from pathlib import Path
from typing import Any

from hub_server import Hub, lines, parquet

ROWS = 5000
SOLUTIONS = 5
"""of a problem in Deep"""
MEDIAN = {"input": 1000, "solution": 500, "output": 9000}
"""Characters of the real columns, about; a few rows are six times as long."""
CONTESTS = range(301, 387)
"""AtCoder Beginner Contests of release_v5, weekly: 301 on 2023-05-13, 365 on 2024-08-03."""
DIFFICULTY = {"a": "easy", "b": "easy", "c": "medium", "d": "medium", "e": "hard", "f": "hard", "g": "hard"}


def fill(
    hub: Hub, model: Path, shared_data: Path, rows: int = ROWS, contests: range = CONTESTS, also: int = 500
) -> None:
    """`rows` of each data set; `also`: problems of each secondary benchmark, at most."""
    hub.add("models", "Qwen/Qwen2.5-Coder-1.5B-Instruct", model)
    for name, solutions in (("Deep", SOLUTIONS), ("Diverse", 1)):
        id = f"Naholav/CodeGen-{name}-5K"
        data = lines(dataset(name, rows, solutions, _texts(shared_data)))
        hub.add("datasets", id, {"README.md": b"---\nlicense: mit\n---\n", f"CodeGen-{name}-5K.jsonl": data})
    hub.add("datasets", "livecodebench/code_generation_lite", release(contests))
    for id, config, problems in (
        ("openai/openai_humaneval", "openai_humaneval", human_eval()),
        ("google-research-datasets/mbpp", "sanitized", mbpp()),
    ):
        card = f"---\nconfigs:\n- config_name: {config}\n  data_files: [{{split: test, path: test-*}}]\n---\n"
        hub.add("datasets", id, {"README.md": card.encode(), "test-0.parquet": parquet(problems[:also])})


def _texts(shared_data: Path) -> list[dict[str, str]]:
    """Real rows, from whose words the others are made."""
    files = sorted((shared_data / "dataset-rows").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def dataset(name: str, rows: int, solutions: int, real: list[dict[str, str]]) -> list[dict[str, Any]]:
    noise = random.Random(name)
    words = sorted({word for row in real for word in row["input"].split()})

    def length(column: str) -> int:
        return min(round(noise.lognormvariate(0, 0.6) * MEDIAN[column]), 6 * MEDIAN[column])

    def prose(characters: int) -> str:
        text = " ".join(noise.choices(words, k=characters // 4))[:characters]
        return text.replace(" Input ", "\n\nInput\n\n").replace(" Output ", "\n\nOutput\n\n")

    def program(number: int) -> str:
        text = "import sys\n\ndef main():\n    data = sys.stdin.read().split()\n"
        most = length("solution")
        while len(text) < most:
            a, b, c = (noise.randrange(1000) for _ in range(3))
            text += f"    total_{a} = sum(int(x) % {b + 1} for x in data[{c}:]) if len(data) > {c} else {number}\n"
        return f"{text}    print(len(data))\n\nmain()\n"

    made = []
    for problem in range(rows // solutions):
        statement = prose(length("input"))
        for solution in range(solutions):
            number = problem * solutions + solution
            code = program(number)
            made.append(
                {
                    "unique_id": f"{name}-{number}",
                    "id": f"{name}-{problem}",
                    "input": statement,
                    "source": "codeforces",
                    "license": "cc-by-4.0",
                    "dataset": "open-code-reasoning",
                    "split": "train" if number % 11 else "test" if number % 22 else "valid",
                    "output": f"<think>\n{prose(length('output'))}\n</think>\n\n```python\n{code}```",
                    "solution": code,
                    "difficulty": str(noise.randrange(1, 11)),
                }
            )
    return made


def release(contests: range) -> dict[str, bytes]:
    """test.jsonl to test5.jsonl."""
    noise, rows = random.Random("release"), []
    for contest in contests:
        day = datetime.date(2023, 5, 13) + datetime.timedelta(weeks=contest - 301)
        for letter, difficulty in DIFFICULTY.items():
            rows.append(_problem(f"abc{contest}_{letter}", f"abc{contest}", "atcoder", difficulty, day, noise))
        ids = [str(3000 + 4 * contest + n) for n in range(3)]
        rows += [_problem(id, f"weekly-{contest}", "leetcode", "medium", day, noise) for id in ids]
    share = -(-len(rows) // 5)
    return {f"test{n + 1 if n else ''}.jsonl": lines(rows[n * share : (n + 1) * share]) for n in range(5)}


def _problem(
    id: str, contest: str, platform: str, difficulty: str, day: datetime.date, noise: random.Random
) -> dict[str, Any]:
    factor = noise.randrange(2, 1000)
    kind = "stdin" if platform == "atcoder" else "functional"

    def test(n: int) -> dict[str, str]:
        return {"input": f"{n}\n", "output": f"{n * factor}\n", "testtype": kind}

    hidden = json.dumps([test(noise.randrange(10**400)) for _ in range(20)])
    return {
        "question_title": f"Times {factor}",
        "question_content": f"Read one integer N. Print N times {factor}. ({id}) " + "The integer may be large. " * 20,
        "platform": platform,
        "question_id": id,
        "contest_id": contest,
        "contest_date": f"{day.isoformat()}T00:00:00",
        "starter_code": "" if kind == "stdin" else "class Solution:\n    def times(self, n: int) -> int:\n        ",
        "difficulty": difficulty,
        "public_test_cases": json.dumps([test(n) for n in range(2)]),
        "private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(hidden))).decode(),
        "metadata": json.dumps({} if kind == "stdin" else {"func_name": "times"}),
    }


def human_eval() -> list[dict[str, Any]]:
    return [
        {
            "task_id": f"HumanEval/{n}",
            "prompt": f'def add_{n}(x: int) -> int:\n    """ Return x plus {n}.\n    """\n',
            "canonical_solution": f"    return x + {n}\n",
            "test": f"def check(candidate):\n    assert candidate(3) == {n + 3}\n    assert candidate(0) == {n}\n",
            "entry_point": f"add_{n}",
        }
        for n in range(164)
    ]


def mbpp() -> list[dict[str, Any]]:
    return [
        {
            "source_file": "made up",
            "task_id": 11 + n,
            "prompt": f"Write a python function that multiplies a number by {n}.",
            "code": f"def times_{n}(x):\n    return {n} * x",
            "test_imports": [],
            "test_list": [f"assert times_{n}({x}) == {n * x}" for x in (1, 2, 3)],
        }
        for n in range(257)
    ]
