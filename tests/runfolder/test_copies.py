"""A run folder on two machines: what a part writes there arrives here, in an order that a kill may cut anywhere."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from kiyas.runfolder.copies import BLOCK, Change, Shelf, Watched, blocks, write
from kiyas.runfolder.files import JsonlWriter, read_jsonl, settle, write_jsonl, write_sealed
from kiyas.types import KiyasError

OWN = ("train/state/*part-0.*", "train/checkpoints/*")
STATE = Path("train/state")


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def work(root: Path, step: int) -> None:
    """As a training: rows, a checkpoint, the state last."""
    log = root / STATE / "part-0.jsonl"
    with JsonlWriter(log) as writer:
        writer.write({"step": step, "loss": 0.5})
    made = root / "train/checkpoints" / f"step-{step}"
    made.mkdir(parents=True)
    (made / "adapter_model.safetensors").write_bytes(bytes([step]) * (BLOCK + 7))
    (made / "adapter_config.json").write_text("{}")
    (root / STATE / "part-0.safetensors").write_bytes(b"state %d" % step)


def test_what_is_written_there_arrives_here(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    watched = Watched(there, OWN)
    watched.begin()
    write_sealed(there / STATE / "part-0.layout.json", {"pass_tokens": 1})
    (there / "resolved.json").write_text("not this part's own")
    for step in (1, 2, 3):
        work(there, step)
        if step == 3:
            shutil.rmtree(there / "train/checkpoints/step-2")
        for change in watched.changes():
            write(here, change)
        ours = contents(there)
        del ours["resolved.json"]
        assert contents(here) == ours
        assert list(watched.changes()) == []
    assert not (here / "train/checkpoints/step-2").exists()


def test_rows_that_are_added_travel_alone(tmp_path: Path) -> None:
    log = tmp_path / STATE / "part-0.jsonl"
    write_jsonl(log, ({"row": n} for n in range(1000)), sealed=True)
    watched = Watched(tmp_path, OWN)
    watched.begin()
    with JsonlWriter(log) as writer:
        writer.write({"row": 1000})
    changes = {change.name: change for change in watched.changes()}
    assert changes[f"{STATE}/part-0.jsonl"].kind == "append" and len(changes[f"{STATE}/part-0.jsonl"].data) < 20
    write_jsonl(log, ({"row": n} for n in range(1001)), sealed=True)  # another file, though it begins alike
    assert {change.kind for change in watched.changes() if change.name.endswith(".jsonl")} == {"replace"}


def test_cut_anywhere_it_is_what_a_killed_run_leaves(tmp_path: Path) -> None:
    """Of all that relies on something, what it relies on is there."""
    there, chance = tmp_path / "there", random.Random(19)
    there.mkdir()
    watched = Watched(there, OWN)
    watched.begin()
    changes: list[Change] = []
    for step in (1, 2, 3, 4):
        work(there, step)
        changes += watched.changes()
    for trial in range(40):
        here = tmp_path / f"cut-{trial}"
        for change in changes[: chance.randrange(len(changes) + 1)]:
            write(here, change)
        state, log = here / STATE / "part-0.safetensors", here / STATE / "part-0.jsonl"
        saved = int(state.read_bytes().split()[1]) if state.exists() else 0
        settle(log)
        assert len(read_jsonl(log) if log.exists() else []) >= saved
        for step in range(1, saved + 1):
            weights = here / f"train/checkpoints/step-{step}/adapter_model.safetensors"
            assert weights.stat().st_size == BLOCK + 7


def test_rows_written_anew_are_never_unconfirmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A part that goes on writes the rows that it keeps anew, and adds to them."""
    there, log, name = tmp_path / "there", tmp_path / "there" / STATE / "part-0.jsonl", STATE / "part-0.jsonl"
    with JsonlWriter(log) as writer:
        for n in range(8):
            writer.write({"row": n})
    shutil.copytree(there, tmp_path / "begun")
    watched = Watched(there, OWN)
    watched.begin()
    changes = []
    for kept, more in ((5, 100), (3, 200)):  # the second shorter than what was confirmed before
        write_jsonl(log, [{"row": n} for n in (0, 7, 6, 5, 4)[:kept]], sealed=True)
        with JsonlWriter(log) as writer:
            writer.write({"row": more})
        changes += watched.changes()
    for end in range(len(changes) + 1):
        here = tmp_path / f"cut-{end}"
        shutil.copytree(tmp_path / "begun", here)
        for change in changes[:end]:
            write(here, change)
        before = (here / name).read_bytes()
        settle(here / name)
        assert (here / name).read_bytes() == before and capsys.readouterr().err == ""
        assert [path.name for path in here.rglob("*.changed")] == []
    assert contents(here) == contents(there)


def test_a_layout_that_changes_after_rows_comes_after_them(tmp_path: Path) -> None:
    watched = Watched(tmp_path, OWN)
    order = []
    for rows in (1, 2):
        write_jsonl(tmp_path / STATE / "part-0.jsonl", ({"row": n} for n in range(rows)))
        write_sealed(tmp_path / STATE / "part-0.layout.json", {"after": rows})
        order.append([Path(change.name).name for change in watched.changes()])
    assert order == [["part-0.layout.json", "part-0.jsonl"], ["part-0.jsonl", "part-0.layout.json"]]


def test_a_stage_may_lie_on_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/train").symlink_to(tmp_path / "disk")
    write(tmp_path / "run", Change("train/state/part-0.layout.json", "replace", 0, b"{}"))
    assert (tmp_path / "disk/state/part-0.layout.json").read_bytes() == b"{}"


def test_what_is_not_what_it_was_changed_from_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"another row\n")
    with pytest.raises(KiyasError, match=r"log\.jsonl was changed while a worker was adding to it\n  hint: "):
        write(tmp_path, Change("log.jsonl", "append", 5, b"row\n"))
    with pytest.raises(KiyasError, match="is not in the run folder"):
        write(tmp_path, Change("../outside", "replace", 0, b""))
    with pytest.raises(KiyasError, match="is not in the run folder"):
        write(tmp_path, Change("/outside", "replace", 0, b""))
    assert not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_a_shelf_takes_a_file_block_by_block_and_lays_it_out(size: int, tmp_path: Path) -> None:
    source, shelf = tmp_path / "source", Shelf(tmp_path / "shelf")
    source.write_bytes(random.Random(size).randbytes(size))
    assert shelf.missing(["abc", "abc"]) == ["abc"]
    for start, data, last in blocks(source):
        assert shelf.missing(["abc"]) == ["abc"]
        shelf.take("abc", start, data, last)
    assert shelf.missing(["abc"]) == []
    shelf.lay(tmp_path / "root", {"data/a": "abc"}, own=False)
    shelf.lay(tmp_path / "root", {"state/b": "abc"}, own=True)
    (tmp_path / "root/state/b").write_bytes(b"changed")
    assert (tmp_path / "root/data/a").read_bytes() == source.read_bytes() == shelf.path("abc").read_bytes()
