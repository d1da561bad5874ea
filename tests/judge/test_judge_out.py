"""`--out`: what is there is known by content; nothing that was damaged or changed is taken for a verdict."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiyas import cli
from kiyas.judge import verdict_file
from kiyas.judge.once import short_digest

Row = dict[str, Any]
RIGHT, WRONG = "print(2 * int(input()))", "print(1)"
PROGRAMS: list[Row] = [
    {"problem_id": "a", "program": RIGHT, "n": 0},
    {"problem_id": "b", "program": WRONG, "n": 1},
    {"problem_id": "a", "program": WRONG, "n": 2},
    {"problem_id": "b", "program": RIGHT, "n": 3},
]


class Place:
    """A folder with problems and programs, and the command that judges them into `out`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out.jsonl"
        self.meta, self.removed = Path(f"{self.out}.meta.json"), Path(f"{self.out}.removed.jsonl")
        self.tests = {id: [{"input": "1\n", "output": "2"}, {"input": "2\n", "output": "4"}] for id in "ab"}
        self.give(PROGRAMS)

    def give(self, programs: list[Row]) -> None:
        rows = {"problems": [{"id": id, "tests": tests} for id, tests in self.tests.items()], "programs": programs}
        for name, each in rows.items():
            (self.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in each))

    def judge(self, *more: str) -> int:
        paths = str(self.folder / "programs.jsonl"), "--problems", str(self.folder / "problems.jsonl")
        return cli.main(["judge", *paths, "--isolation", "weak", "--workers", "1", "--out", str(self.out), *more])

    @property
    def rows(self) -> list[Row]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    @property
    def verdicts(self) -> dict[int, str]:
        return {row["n"]: row["verdict"] for row in self.rows}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


EXPECTED = {0: "AC", 1: "WA", 2: "WA", 3: "AC"}
NEW = {"problem_id": "a", "program": RIGHT + " ", "n": 9}


@pytest.mark.parametrize("at", range(5))
def test_programs_may_be_added_anywhere(at: int, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.judge() == 0
    before = place.rows
    place.give([*PROGRAMS[:at], NEW, *PROGRAMS[at:]])
    assert place.judge() == 0
    assert "4 of 5 verdicts are there already" in capsys.readouterr().err
    assert list(place.verdicts) == [*[0, 1, 2, 3][:at], 9, *[0, 1, 2, 3][at:]]
    assert place.verdicts == EXPECTED | {9: "AC"}
    assert [row for row in place.rows if row["n"] != 9] == before
    assert not place.removed.exists()


def test_another_order_judges_nothing_again(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.judge() == 0
    before = place.rows
    place.give(PROGRAMS[::-1])
    assert place.judge() == 0
    assert "nothing left to judge" in capsys.readouterr().err
    assert place.rows == before[::-1]


def test_equal_rows_stay_separate(place: Place) -> None:
    place.give([PROGRAMS[0]] * 3)
    assert place.judge() == 0
    assert len(place.rows) == 3
    place.give([PROGRAMS[0]] * 5)
    assert place.judge() == 0
    assert len(place.rows) == 5 and {json.dumps(row) for row in place.rows} == {json.dumps(place.rows[0])}
    place.give([PROGRAMS[0]] * 2)
    assert place.judge() == 0
    assert len(place.rows) == 2


def test_rows_that_the_input_no_longer_has_are_moved(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.judge() == 0
    gone = [row for row in place.rows if row["n"] in (1, 2)]
    place.give([PROGRAMS[0], PROGRAMS[3]])
    assert place.judge() == 0
    assert "2 of its rows are of programs or tests that the input no longer has" in capsys.readouterr().err
    assert place.verdicts == {0: "AC", 3: "AC"}
    assert [json.loads(line) for line in place.removed.read_text().splitlines()] == gone


@pytest.mark.parametrize("change", ["test", "limit"])
def test_other_tests_or_limits_are_another_problem(change: str, place: Place) -> None:
    assert place.judge() == 0
    kept = place.rows
    if change == "test":
        place.tests["a"][0]["output"] = "1"
        place.give(PROGRAMS)
    else:
        rows = [{"id": id, "tests": tests} for id, tests in place.tests.items()]
        rows[0]["time_limit_s"] = 3  # type: ignore[assignment]
        (place.folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert place.judge() == 0
    assert len(place.rows) == 4
    assert [row for row in place.rows if row["problem_id"] == "b"] == [row for row in kept if row["problem_id"] == "b"]
    assert place.verdicts == ({0: "WA", 1: "WA", 2: "WA", 3: "AC"} if change == "test" else EXPECTED)


def test_other_keys_of_a_row_are_passed_through_without_judging_again(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.judge() == 0
    place.give([{**row, "model": "m"} for row in PROGRAMS])
    assert place.judge() == 0
    assert "4 of these verdicts are those of the same program" in capsys.readouterr().err
    assert place.verdicts == EXPECTED and all(row["model"] == "m" for row in place.rows)
    assert not place.removed.exists()


def edit(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old.encode(), new.encode(), 1)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a verdict edited": edit('"WA"', '"AC"'),
    "a number edited": edit('"passed": 0', '"passed": 2'),
    "a key of the input edited": edit('"n": 1', '"n": 7'),
    "a blank more": edit('"n": 1', '"n":  1'),
    "a byte flipped": lambda content: content[:300] + bytes([content[300] ^ 1]) + content[301:],
    "a row cut": lambda content: content[:100] + content[content.index(b"\n") :],
    "an empty row": lambda content: b"\n" + content,
    "the seal removed": lambda content: content[:-70] + b"}\n",
    "the last row is not ours": lambda content: content + b'{"n": 4, "verdict": "AC"}\n',
    "binary": lambda content: content[:-1] + b"\0\n",
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_row_that_was_damaged_or_changed_is_refused(
    what: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.judge() == 0
    place.out.write_bytes(DAMAGE[what](place.out.read_bytes()))
    before = place.out.read_bytes()
    assert place.judge() == 1
    said = capsys.readouterr().err
    assert f"{place.out}:" in said and "this row is damaged, or was changed" in said
    assert place.out.read_bytes() == before
    number = int(said.partition(f"{place.out}:")[2].partition(":")[0])
    lines = before.splitlines(keepends=True)
    place.out.write_bytes(b"".join(lines[: number - 1] + lines[number:]))  # as the hint says
    assert place.judge() == 0
    assert place.verdicts == EXPECTED


def test_a_row_that_is_missing_is_judged(place: Place) -> None:
    assert place.judge() == 0
    lines = place.out.read_bytes().splitlines(keepends=True)
    place.out.write_bytes(b"".join([*lines[:1], *lines[2:]]))
    assert place.judge() == 0
    assert list(place.verdicts.items()) == list(EXPECTED.items())


@pytest.mark.parametrize("what", ["[]", "{", "edited", "gone"])
def test_settings_that_were_changed_are_refused(what: str, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.judge() == 0
    text = place.meta.read_text()
    if what == "gone":
        place.meta.unlink()
    else:
        place.meta.write_text(text.replace("weak", "strong") if what == "edited" else what)
    assert place.judge() == 1
    said = capsys.readouterr().err
    assert place.meta.name in said and "Traceback" not in said
    place.meta.write_text(text)
    assert place.judge() == 0


def test_a_failed_sandbox_is_judged_again_and_in_its_place(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from kiyas.judge import Outcome, Tier, Verdict
    from kiyas.judge import cli as judge_cli

    real = judge_cli.judge

    def fails(programs: Any, *arguments: Any, **named: Any) -> Any:
        for number, verdict in enumerate(real(programs, *arguments, **named)):
            yield Verdict(verdict.program, Outcome.IE, 0, 2, (), "it died", Tier.WEAK) if number == 1 else verdict

    with monkeypatch.context() as patch:
        patch.setattr(judge_cli, "judge", fails)
        assert place.judge() == 2
    assert place.verdicts == EXPECTED | {1: "IE"}
    assert place.judge() == 0
    assert list(place.verdicts.items()) == list(EXPECTED.items())


def test_a_broken_checker_is_named_once_and_nothing_is_judged_again(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    checker = "def check(given, expected, output): return int(output) == int(expected) if output.strip() else False"
    rows = [{"id": "a", "tests": place.tests["a"], "checker": checker}, {"id": "b", "tests": place.tests["b"]}]
    place.give([{"problem_id": id, "program": f"print('x{n}')"} for n, id in enumerate("aaaab")])
    (place.folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for _ in range(2):
        assert place.judge() == 2
        said = capsys.readouterr().err
        assert said.count("checker failed: ValueError") == 1 and "mend its checker" in said
        assert "again" not in said
    assert [row["verdict"] for row in place.rows] == ["IE"] * 4 + ["WA"]


def _hold(path: Path, ready: Any, done: Any) -> None:
    with verdict_file.locked(path):
        ready.set()
        done.wait(60)


@pytest.mark.parametrize("locks", [True, False])
def test_a_second_process_is_refused(
    locks: bool, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not locks:

        def no_locks(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", no_locks)
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(place.out, ready, done))
    other.start()
    assert ready.wait(60)
    # The sandbox's own folders need no locks.
    assert place.judge() == 1
    said = capsys.readouterr().err
    assert "another process is writing to it" in said and ("this file system has no locks" in said) is not locks
    if locks:
        done.set()
    else:
        other.kill()  # what it leaves behind is known to be nobody's
    other.join()
    assert place.judge() == 0 and place.verdicts == EXPECTED
    assert sorted(path.name for path in place.folder.iterdir() if path.name.startswith("out")) == [
        place.out.name,
        place.meta.name,
    ]


def test_a_replaced_file_is_still_locked(place: Place) -> None:
    assert place.judge() == 0
    place.give([PROGRAMS[0]])
    once = verdict_file.Once([], {})
    settings = {key: value for key, value in json.loads(place.meta.read_text()).items() if key == "mode"}
    with verdict_file.VerdictFile(place.out, settings, [], once) as file:
        assert file.drop(set()) == 4
        with pytest.raises(verdict_file.InputError, match="another process"), verdict_file.locked(place.out):
            pass


@pytest.mark.parametrize("kind", ["fifo", "folder", "/dev/null"])
def test_only_a_file_can_be_written_to(kind: str, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    if kind == "fifo":
        os.mkfifo(place.out)
    elif kind == "folder":
        place.out.mkdir()
    else:
        place.out = Path(kind)
    assert place.judge() == 1
    assert "is not a file" in capsys.readouterr().err


def test_a_link_to_an_input_is_refused(place: Place) -> None:
    os.link(place.folder / "programs.jsonl", place.out)
    before = place.out.read_bytes()
    assert place.judge() == 1 and place.out.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [{"judged": "no digest"}, {"verdict": "ZZ"}, {"verdict": ["AC"]}, {"flags": None}, {"flags": [1]}, {"detail": 5}],
    ids=str,
)
def test_a_row_that_somebody_sealed(change: Row, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.judge()
    lines = place.out.read_bytes().splitlines(keepends=True)
    row = {**json.loads(lines[1]), **change}
    del row["sealed"]
    body = json.dumps(row).encode()
    lines[1] = body[:-1] + verdict_file.SEALED % short_digest(body).hex().encode()
    place.out.write_bytes(b"".join(lines))
    assert place.judge() == 1
    assert "out.jsonl:2: this row is not one of ours" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"proven": None}, {verdict_file.FINDINGS: [{"x": 1}]}], ids=["proven", "findings"])
def test_settings_that_somebody_sealed(change: Row, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.judge()
    meta = {**json.loads(place.meta.read_bytes()), **change}
    meta = {key: value for key, value in meta.items() if key != "sealed" and value is not None}
    place.meta.write_text(json.dumps({**meta, "sealed": verdict_file._seal(meta)}))
    assert place.judge() == 1
    assert "meta.json: is not one of ours" in capsys.readouterr().err


def test_pipes_and_links_beside_the_verdicts(place: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nothing waits for a reader, and nothing is written where a link leads."""
    place.judge()
    other = tmp_path / "other"
    other.write_text("precious")
    place.out.with_name("out.jsonl.tmp").symlink_to(other)
    place.removed.symlink_to(other)
    place.give(PROGRAMS[1:])
    assert place.judge() == 1
    assert "out.jsonl: cannot be written" in capsys.readouterr().err
    place.removed.unlink()
    assert place.judge() == 0
    assert other.read_text() == "precious"
    os.mkfifo(place.out.with_name("out.jsonl.tmp"))
    place.give(PROGRAMS[::-1])
    assert place.judge() == 0
    place.meta.unlink()
    os.mkfifo(place.meta)
    assert place.judge() == 1
    assert "no file out.jsonl.meta.json" in capsys.readouterr().err
