"""The state that a killed training goes on from: safetensors, written and read in blocks, refused where broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kiyas.model import checkpoints
from kiyas.model.checkpoints import load_state, save_state, state_notes
from kiyas.types import KiyasError

NOTES = {"step": 7, "loss_sum": [0.5, None]}


def tensors() -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(0)
    made = {name: torch.randn(3, 1001, generator=noise) for name in ("theta", "m", "v")}
    return {**made, "half": made["m"].bfloat16(), "scale": torch.tensor([2.0, 4.0]).double(), "count": torch.tensor(5)}


def empty() -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors().items()}


@pytest.mark.parametrize("block", [2**25, 100])
def test_what_is_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(checkpoints, "_BLOCK_BYTES", block)
    path, read = tmp_path / "a" / "state.safetensors", empty()
    assert load_state(path, read) is None and state_notes(path) is None
    save_state(path, tensors(), NOTES)
    assert load_state(path, read) == NOTES == state_notes(path)
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors().items())
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_its_library_reads_it_and_it_reads_its_library(tmp_path: Path) -> None:
    ours, theirs, read = tmp_path / "ours", tmp_path / "theirs", empty()
    save_state(ours, tensors(), NOTES)
    with safe_open(ours, framework="pt") as file:
        assert json.loads(file.metadata()["notes"]) == NOTES
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors().items())
    save_file(tensors(), theirs, {"notes": json.dumps(NOTES)})  # as version 0.1.0 did
    assert load_state(theirs, read) == NOTES
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors().items())


@pytest.mark.parametrize("at", [30, 0.3, 0.6, 0.99])
def test_a_file_with_one_other_byte_is_refused(tmp_path: Path, at: float) -> None:
    """Not taken for a training that diverged."""
    path = tmp_path / "state.safetensors"
    save_state(path, tensors(), NOTES)
    data = bytearray(path.read_bytes())
    data[int(at * len(data)) if at < 1 else int(at)] ^= 1
    path.write_bytes(data)
    with pytest.raises(KiyasError, match=r"state\.safetensors is broken: .*\n  hint: remove it to train again"):
        load_state(path, empty())


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, tensors(), NOTES)
    path.write_bytes(path.read_bytes()[:keep])
    for read in (lambda: load_state(path, empty()), lambda: state_notes(path)):
        with pytest.raises(KiyasError, match=r"state\.safetensors is broken: .*\n  hint: remove it to train again"):
            read()


def test_a_state_of_other_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, tensors(), NOTES)
    for other, reason in ({"w": torch.zeros(3)}, "not in it"), ({"m": torch.zeros(3)}, "of another shape"):
        with pytest.raises(KiyasError, match=reason):
            load_state(path, other)


def test_host_memory_is_a_block_not_the_state(tmp_path: Path) -> None:
    """Saving and loading 256 MB in a process of its own adds far less than that to the memory it ever held."""
    code = """
import resource, sys, torch
from pathlib import Path
from kiyas.model.checkpoints import load_state, save_state
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
tensors = {name: torch.ones(4, 2**22) for name in ("theta", "m", "v", "w")}
path = Path(sys.argv[1]) / "state.safetensors"
save_state(path, {"w": tensors["w"][:1].contiguous()}, {})  # what is imported and allocated once
before = peak()
save_state(path, tensors, {})
saved = peak()
for tensor in tensors.values(): tensor.zero_()
load_state(path, tensors)
assert all(bool((tensor == 1).all()) for tensor in tensors.values())
print(saved - before, peak() - before)
"""
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert max(map(int, found.stdout.split())) < 96, found.stdout
