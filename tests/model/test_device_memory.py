"""Memory that a process may still take: the machine's, or less where a control group says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kiyas.model import device


def write(folder: Path, **values: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name.replace("__", ".")).write_text(value)


def test_the_tightest_control_group_counts(tmp_path: Path) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("4:memory:/job/step\n3:cpu:/\n0::/outer/inner\n")
    assert device._group_bytes(root, own) == []
    write(root, memory__max="max", memory__current="5", memory__stat="inactive_file 0\n")
    write(root / "outer", memory__max="1000", memory__current="900", memory__stat="anon 1\ninactive_file 300\n")
    write(root / "outer/inner", memory__max="2000", memory__current="100", memory__stat="inactive_file 0\n")
    old = {"memory__limit_in_bytes": "800", "memory__usage_in_bytes": "900"}
    write(root / "memory/job", **old, memory__stat="inactive_file 1\ntotal_inactive_file 40\n")
    assert sorted(device._group_bytes(root, own)) == [0, 400, 1900]
    assert device._group_bytes(root, tmp_path / "absent") == []


def test_the_machine_or_the_group_whichever_is_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_group_bytes", lambda root, own: [7, 5])
    assert device.available_bytes(torch.device("cpu")) == 5
    monkeypatch.setattr(device, "_group_bytes", lambda root, own: [])
    assert device.available_bytes(torch.device("cpu")) == pytest.approx(device._machine_bytes(), rel=0.2)
