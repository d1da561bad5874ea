"""MBPP: a sentence and a few assertions, of which the model sees all."""

from __future__ import annotations

from .format import BadRowError, Format, Problem, Row, python3, take, take_texts


def problem(row: Row) -> Problem:
    # `challenge_test_list` is left out, as in the benchmark's own evaluation.
    tests = take_texts(row, "test_list")
    if not tests:
        raise BadRowError("'test_list' is empty")
    setup = [*take_texts(row, "test_imports", []), take(row, "test_setup_code", str, "")]
    statement = take(row, "text", str, "") or take(row, "prompt", str, "")
    test_code = "\n".join(["\n".join(filter(None, setup)), *tests]) + "\n"
    return Problem(
        id=str(take(row, "task_id", (str, int))),
        tests=(),
        statement=statement,
        # The wording of Austin et al. 2021: the sentence alone does not name the function.
        question=f"{statement.strip()} Your code should pass these tests:\n\n{test_code.strip()}" if statement else "",
        test_code=test_code,
        platform="mbpp",
    )


FORMAT = Format(
    name="mbpp",
    columns=("task_id", "test_list"),
    differs=lambda row: "it has a 'test' too" if row.get("test") is not None else "",
    problem=problem,
    solutions=lambda row: python3([row.get("code")]),
    title="MBPP",
    citation="""\
@misc{austin2021mbpp,
  author = {Austin, Jacob and Odena, Augustus and Nye, Maxwell and Bosma, Maarten and others},
  title = {Program Synthesis with Large Language Models},
  year = {2021},
  eprint = {2108.07732},
  archiveprefix = {arXiv}
}""",
    hub_id="google-research-datasets/mbpp",
    hub_config="sanitized",
)
