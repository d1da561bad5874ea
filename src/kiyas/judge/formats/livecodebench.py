"""LiveCodeBench: stdin/stdout and function-style problems, with public and private tests."""

from __future__ import annotations

import base64
import json
import pickletools
import zlib

from .format import BadRowError, Format, Problem, Row, Test, take, take_json, take_tests, unpacked


def problem(row: Row) -> Problem:
    if row.get("private_test_cases") is None:
        raise BadRowError("its 'private_test_cases' are missing", "take the rows as released; `[]` for none on purpose")
    tests = _tests(row, "public_test_cases") + _tests(row, "private_test_cases")
    functional = any(test.get("testtype") == "functional" for test in tests)
    entry_point = take(take_json(row, "metadata", dict, {}), "func_name", str, None)
    if functional and not entry_point:
        raise BadRowError("functional tests, but no 'func_name' in 'metadata'")
    return Problem(
        id=str(take(row, "question_id", (str, int))),
        tests=tuple(Test(test["input"], test["output"]) for test in tests),
        title=take(row, "question_title", str, ""),
        statement=take(row, "question_content", str, ""),
        entry_point=entry_point if functional else None,
        platform=take(row, "platform", str, ""),
        difficulty=take(row, "difficulty", str, ""),
        date=take(row, "contest_date", str, ""),
        group=str(take(row, "contest_id", (str, int), "")),
    )


def _tests(row: Row, key: str) -> list[Row]:
    """A list, its JSON, or (private tests) base64 of zlib of a pickled JSON string.

    That one string is found by its opcode: nothing is ever unpickled.
    """
    value = row.get(key) or []
    if isinstance(value, str):
        if value.lstrip()[:1] in ("[", "{"):
            return take_tests({key: take_json(row, key, list)}, key)
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            try:
                pickled = unpacked(base64.b64decode(value, validate=True), key)
                found = pickletools.genops(pickled)
                text = next(arg for op, arg, _ in found if isinstance(arg, str) and "UNICODE" in op.name)
                del pickled, found  # tests of many megabytes: one copy fewer
                value = json.loads(text)
            except (ValueError, RecursionError, zlib.error, StopIteration) as error:
                raise BadRowError(f"{key!r} can be read neither as JSON nor as packed JSON: {error}") from None
    return take_tests({key: value}, key)


FORMAT = Format(
    name="livecodebench",
    columns=("question_id", "public_test_cases"),
    problem=problem,
    public=lambda row: {**row, "private_test_cases": "[]"},
    title="LiveCodeBench",
    citation="""\
@misc{jain2024livecodebench,
  author = {Jain, Naman and Han, King and Gu, Alex and Li, Wen-Ding and Yan, Fanjia and
            Zhang, Tianjun and Wang, Sida and Solar-Lezama, Armando and Sen, Koushik and Stoica, Ion},
  title = {{LiveCodeBench}: Holistic and Contamination Free Evaluation of Large Language Models
           for Code},
  year = {2024},
  eprint = {2403.07974},
  archiveprefix = {arXiv}
}""",
    hub_id="livecodebench/code_generation_lite",
    # Script data sets are loaded by nobody any more: these are the files that the script read.
    release_files=lambda release: [f"test{n if n > 1 else ''}.jsonl" for n in range(1, int(release[-1]) + 1)],
)
