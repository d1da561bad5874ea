"""`benchmarks/gpu.py` beside a card that is not there. Runs in a process with the guard: see child.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import stand_in
import torch

sys.path.insert(1, str(Path(__file__).parents[2] / "benchmarks"))
import gpu


def small() -> dict[str, Any]:
    """All of it but TRL, small, with numbers."""
    no_trl = mock.patch.object(gpu, "trl_speed", lambda bench, dtype: bench.note("TRL", "left out"))
    rows: list[dict[str, Any]] = []
    with stand_in.Device(), no_trl, mock.patch.object(sys, "argv", ["gpu.py", "--tiny", "--adapters", "2"]):
        real = gpu.Bench.note
        noted = mock.patch.object(
            gpu.Bench,
            "note",
            lambda self, what, value, ok=None: (real(self, what, value, ok), rows.append({"what": what, "ok": ok})),
        )
        with noted:
            return {"code": gpu.main(), "rows": rows}


def memory(card: str) -> list[dict[str, Any]]:
    """Its proofs of memory at full size, without numbers."""
    with stand_in.Device(stand_in.CARDS[card], numbers=False):
        bench = gpu.Bench(torch.device("cuda"), tiny=False, adapters=4)
        dtype = gpu.pick_dtype("auto", bench.device)
        gpu.memory_of_training(bench, dtype)
        gpu.memory_of_decoding(bench, dtype)
        return bench.rows
