"""`kiyas ask`: which problem is meant, which samples its statement shows, how base and arms are asked and judged."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from finished import contents, make_finished
from kiyas import practice
from kiyas.cli import main
from kiyas.data.chat import Chat
from kiyas.data.samples import problem_of, samples
from kiyas.judge import JudgeError, Problem, Test
from kiyas.judge.types import Extraction, Outcome, Program, Tier, Verdict
from kiyas.pipeline import ask
from kiyas.runfolder.paths import RunDir
from kiyas.runfolder.record import read_record, write_record
from kiyas.types import BASE, AdapterId, Completion, KiyasError

ATCODER = """You are given N. Print the sum.

Input

The input is given from Standard Input in the following format:

N
A_1 ... A_N

Output

Print the answer.

Sample Input 1

3
1 2 3

Sample Output 1

6

The sum of 1, 2 and 3 is 6.

Sample Input 2

1
5

Sample Output 2

5
"""
CODEFORCES = """Read n and print it twice.

Input

The only line contains n.

Output

Print n twice.

Examples

Input

7

Output

7
7

Input
8
Output
8
8

Note

In the first test n is 7.
"""
MARKDOWN = """# Task

Print the text.

**Example Input:**
```
a

b
```
**Example Output:**
```text
a

b
```
That is all.
"""
JAPANESE = "整数Nが与えられます。\n\n入力例 1\n\n3\n\n出力例 1\n\n9\n"
EMPTY = (
    "Sample Input 1\n\n...\n\nSample Output 1\n\n\n\n\nNothing is left.\n\nSample Input 2\n\nv\n\nSample Output 2\n\nv"
)
HUMANEVAL = '''from typing import List


def longest(strings: List[str]) -> Optional[str]:
    """ Out of list of strings, return the longest one.
    >>> longest([])

    >>> longest(['a', 'bb'])
    'bb'
    >>> longest(['a']) == 'a'
    True
    """
'''


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (ATCODER, [("3\n1 2 3\n", "6"), ("1\n5\n", "5")]),
        (CODEFORCES, [("7\n", "7\n7"), ("8\n", "8\n8")]),
        (MARKDOWN, [("a\n\nb\n", "a\n\nb")]),
        (JAPANESE, [("3\n", "9")]),
        (EMPTY, [("v\n", "v")]),
        ("Input\n\n3\n\nOutput\n\n4\n", []),
        ("Sample Input\n1\n\nSample Output\n2\nExplanation: 1 + 1 is 2.\n", [("1\n", "2")]),
        ("Sample Input\n\n3\n", []),
        ("Sample Output\n\n3\n", []),
        ("Sample Input\nSample Output\n1\n", [("", "1")]),
        ("```\nSample Input\n3\nSample Output\n4\n```\n", []),
        ("", []),
    ],
    ids=[
        "atcoder",
        "codeforces",
        "markdown",
        "japanese",
        "empty",
        "format",
        "remark",
        "half",
        "other-half",
        "no-input",
        "code",
        "nothing",
    ],
)
def test_samples_of_a_statement(statement: str, found: list[tuple[str, str]]) -> None:
    assert [(test.input, test.output) for test in samples(statement)] == found


def test_samples_of_the_practice_world() -> None:
    for row in practice.benchmark(41):
        (test,) = samples(row["statement"])
        assert test.input and test.output in row["statement"]


def test_doctests_are_the_samples_of_a_function() -> None:
    problem = problem_of(HUMANEVAL, "x")
    assert problem.entry_point == "longest" and problem.total == 1 and "Complete the following" in problem.question
    assert problem.test_code is not None and problem.test_code.count("assert") == 2
    prose = problem_of(f"Write a function.\n\n```python\n{HUMANEVAL}```\nThanks.", "x")
    assert prose.test_code is not None and prose.test_code.count("assert") == 2 and prose.question == ""


def test_samples_of_real_statements(shared_data: Path) -> None:
    """What the statement shows is among the benchmark's own tests."""
    for line in (shared_data / "atcoder-easy-41" / "problems.jsonl").open():
        row = json.loads(line)
        own = {(test["input"].strip(), test["output"].strip()) for test in row["tests"]}
        shown = {(test.input.strip(), test.output.strip()) for test in samples(row["statement"])}
        assert shown and shown <= own, row["id"]
    with gzip.open(shared_data / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    found = [problem_of(row["prompt"], "x") for row in rows]
    assert sum(each.test_code is not None for each in found) >= 70
    assert all(each.entry_point in (None, row["entry_point"]) for each, row in zip(found, rows, strict=True))


# -- which problem ----------------------------------------------------------------------------------------------------

ROWS: list[dict[str, Any]] = [
    {"id": name, "statement": f"Print {name}.", "tests": [{"input": "", "output": name}]} for name in ("one", "two")
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.mark.parametrize(
    ("data", "wanted", "id"),
    [
        (json.dumps(ROWS[0]).encode(), None, "one"),
        (json.dumps(ROWS[0], indent=2).encode(), None, "one"),
        (json.dumps(ROWS).encode(), "two", "two"),
        (LINES, "two", "two"),
        (b"\xef\xbb\xbf" + LINES, "one", "one"),
    ],
    ids=["row", "object", "list", "lines", "with-a-mark"],
)
def test_a_problem_row(data: bytes, wanted: str | None, id: str) -> None:
    problem, tests_from = ask.read_problem(data, "rows.jsonl", wanted)
    assert (problem.id, tests_from, problem.total) == (id, "row", 1)


@pytest.mark.parametrize(("statement", "tests_from"), [(ATCODER, "statement"), ("Do it.", "none")])
def test_a_row_with_nothing_but_a_statement_has_its_samples(statement: str, tests_from: str) -> None:
    problem, found = ask.read_problem(json.dumps({"id": "a", "statement": statement}).encode(), "x.json")
    assert (problem.id, problem.total, found) == ("a", 2 * (tests_from == "statement"), tests_from)
    assert problem.tests == problem_of(statement, "a").tests


def test_a_statement() -> None:
    problem, tests_from = ask.read_problem(ATCODER.encode(), "statement.txt")
    assert tests_from == "statement" and problem.total == 2 and problem.statement == ATCODER.strip()
    assert ask.read_problem(b"[Easy] Print 1.", "x")[1] == "none"
    assert problem.id == ask.read_problem(ATCODER.encode(), "elsewhere.md")[0].id, "the same noise for the same text"


@pytest.mark.parametrize(
    ("data", "wanted", "message"),
    [
        (b"", None, "x is empty"),
        (b" \n", None, "x is empty"),
        (b"\xff\xfe\x00", None, "x is not text"),
        (b"a\x00b", None, "NUL byte"),
        (LINES, None, "2 problems.*--problem ID \\(one, two\\)"),
        (LINES, "three", "no problem 'three'.*one, two"),
        (b"Print 1.", "one", "is a statement, not rows"),
        (b'{"id": 1', None, "x:1: begins like JSON, but is not valid"),
        (b'{"id": "a", "tests": [{"input": "", "output": "1"}]}', None, "problem a has no statement"),
        (b'{"id": "a", "statement": "Print.", "tests": []}', None, "no tests"),
        (b'{"x": 1}', None, "no format claims this row"),
        (b'[{"id": "a"}, 3]', None, "expected a JSON object, found int"),
    ],
    ids=[
        "empty",
        "blank",
        "binary",
        "nul",
        "several",
        "unknown",
        "words",
        "torn",
        "silent",
        "untested",
        "odd",
        "number",
    ],
)
def test_what_is_no_problem(data: bytes, wanted: str | None, message: str) -> None:
    with pytest.raises((KiyasError, JudgeError), match=f"(?s){message}"):
        ask.read_problem(data, "x", wanted)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "a folder"), (tmp_path / "x", "no such file")):
        with pytest.raises(KiyasError, match=message):
            ask.read_source(path)


# -- asking -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    short = {"generation": {"max_new_tokens": 12}}
    return make_finished(tmp_path_factory.mktemp("runs") / "small", short, problems=5, steps=(20,))


def test_base_and_arms_answer_and_are_judged(run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run.root)
    (tmp_path / "statement.txt").write_text(ATCODER)
    words = [str(run.root), str(tmp_path / "statement.txt"), "--json", "--arm", "deep@1", "--arm", "diverse"]
    assert main(["ask", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tests_from"] == "statement" and found["problem"]["tests"] == 2 and found["isolation"] == "strong"
    who = [(each["arm"], each["seed"]) for each in found["answers"]]
    assert who == [("base", 0), ("deep", 1), ("diverse", 0)] and "decides nothing" in found["note"]
    texts = {each["arm"]: each["text"] for each in found["answers"]}
    assert len(set(texts.values())) == 3, "each adapter answers with its own weights"
    prompt = Chat.load(practice.base_path()).prompt_ids(ATCODER.strip(), None)
    assert {each["prompt_tokens"] for each in found["answers"]} == {len(prompt)}, "asked as in the study"
    assert all(each["verdict"] in set(Outcome) and each["total"] == 2 for each in found["answers"])
    assert contents(run.root) == before


def test_several_answers_without_samples(run: RunDir) -> None:
    wanted = ask.Wanted(arms=("deep",), samples=3, temperature=1.0, isolation="weak")
    found = ask.ask(run, *ask.read_problem(b"Print one word.", "x"), wanted)
    assert found.not_run.startswith("no samples") and found.tier is None
    assert all(each.verdict is None for each in found.answers)
    deep = [each.completion for each in found.answers if each.completion.adapter.arm == "deep"]
    assert [each.sample for each in deep] == [0, 1, 2] and len({each.text for each in deep}) > 1
    again = ask.ask(run, *ask.read_problem(b"Print one word.", "x"), wanted)
    assert again == found, "the noise is a function of who answers what"


def test_a_whole_model_answers_by_itself(tmp_path: Path) -> None:
    whole = shutil.copytree(practice.base_path(), tmp_path / "model")
    arms = {"deep": {"model": str(whole)}, "diverse": {"dataset_name": "diverse"}}
    study = {"arms": arms, "seeds": [0], "generation": {"max_new_tokens": 12}}
    folder = make_finished(tmp_path / "run", study, seeds=(0,), steps=(20,), problems=5)
    found = ask.ask(folder, *ask.read_problem(b"Print one word.", "x"), ask.Wanted())
    base, deep, diverse = (each.completion for each in found.answers)
    assert (base.adapter.arm, deep.adapter.arm, diverse.adapter.arm) == ("base", "deep", "diverse")
    assert deep.text == base.text != diverse.text, "it is a copy of the base"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (ask.Wanted(samples=2), "decodes greedily.*--temperature"),
        (ask.Wanted(samples=0), "--samples 0"),
        (ask.Wanted(temperature=float("nan")), "--temperature nan"),
        (ask.Wanted(arms=("dep",)), "did you mean deep"),
        (ask.Wanted(seed=9), "deep has no seed 9"),
    ],
    ids=["greedy", "none", "nan", "arm", "seed"],
)
def test_what_cannot_be_asked(run: RunDir, wanted: ask.Wanted, message: str) -> None:
    with pytest.raises(KiyasError, match=f"(?s){message}"):
        ask.ask(run, *ask.read_problem(ATCODER.encode(), "x"), wanted)


def test_a_statement_that_is_longer_than_the_base_can_read(run: RunDir) -> None:
    with pytest.raises(KiyasError, match=r"a prompt of [\d,]+ tokens, but the base model's limit is 512"):
        ask.ask(run, *ask.read_problem(b"word " * 3000, "x"), ask.Wanted())


def test_an_interpreter_that_came_with_the_run_is_not_started(
    run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = RunDir(Path(shutil.copytree(run.root, tmp_path / "copy")))
    inside = copy.root / "env" / "python"
    inside.parent.mkdir()
    inside.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    inside.chmod(0o755)
    record = read_record(copy)
    assert record.study is not None
    judge = record.study.judge.model_copy(update={"python": str(inside)})
    write_record(copy, record.model_copy(update={"study": record.study.model_copy(update={"judge": judge})}))
    (tmp_path / "x.txt").write_text(ATCODER)
    assert main(["ask", str(copy.root), str(tmp_path / "x.txt")]) == 1
    said = capsys.readouterr().err
    assert str(inside) in said and "--trust" in said and not (tmp_path / "started").exists()


def test_the_isolation_is_the_judges(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before the base is loaded, and never lowered."""

    def refuse(isolation: str, python: str | None) -> Tier:
        raise JudgeError(f"{isolation} isolation does not hold here")

    monkeypatch.setattr(ask, "choose", refuse)
    monkeypatch.setattr(ask, "_answers", lambda *_: pytest.fail("the base was asked"))
    with pytest.raises(JudgeError, match="strong isolation does not hold"):
        ask.ask(run, *ask.read_problem(ATCODER.encode(), "x"), ask.Wanted())


def answer(
    arm: str, sample: int, text: str, program: str, outcome: Outcome, passed: int, detail: str = ""
) -> ask.Answer:
    id = BASE if arm == "base" else AdapterId(arm, "", 0, 240)
    verdict = Verdict(Program("x", program), outcome, passed, 2, (), detail, Tier.STRONG)
    return ask.Answer(Completion(id, "x", sample, text, 9, 9, "eos"), Extraction(program, "fence", "block"), verdict)


def test_the_table_fits_a_narrow_terminal_and_shows_each_program_once() -> None:
    long = "print(" + "1 + " * 30 + "1)"
    answers = (
        answer("base", 0, "a", "print(6)", Outcome.AC, 2),
        answer("base", 1, "b", long, Outcome.WA, 1, "test 2: line 1 differs"),
        answer("a-long-name-of-an-arm", 0, "c", "print(6)", Outcome.AC, 2),
        answer("a-long-name-of-an-arm", 1, "d", "print('\x1b[2J\u202e')", Outcome.RE, 0, "test 1: \x1b[31mred"),
    )
    problem = Problem("x", (Test("1\n", "6"), Test("2\n", "7")), statement="Print.")
    asked = ask.Asked("runs/mine", problem, "statement", "", Tier.STRONG, 41, answers)
    text = asked.text(60)
    assert all(len(line) <= 60 for line in text.splitlines()) and not {"\x1b", "\u202e"} & set(text)
    assert text.count("    print(6)") == 1 and "AC: base 1 of 2, a-long-name-of-an-arm@0 1 of 2" in text
    assert "2 samples in the statement, run in strong isolation" in text and "WA (test 2: line 1 differs)" in text
    assert "One problem decides nothing about the arms" in text
    assert json.loads(json.dumps(asked.to_json()))["answers"][1]["verdict"] == "WA"
