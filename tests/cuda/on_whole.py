"""A preset from the Hub to the report on the shadow device, in one process. Runs beside the guard: see child.py."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def preset(name: str, endpoint: str, overrides: list[str], card: str) -> dict[str, Any]:
    """`kiyas init`, then `kiyas run` with the overrides, once up to the data and once to the end."""
    # Before the Hub's client is imported, which reads them then.
    os.environ |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(Path.cwd() / "hf"), "HF_HUB_OFFLINE": "0"}
    import stand_in

    from kiyas import cli

    found: dict[str, Any] = {"folder": str(Path.cwd())}
    with stand_in.Device(stand_in.CARDS[card]) as device:
        assert cli.main(["init", "study.yaml", "--preset", name]) == 0
        for stage in ("data", "report"):
            start = time.monotonic()
            command = ["run", "study.yaml", *overrides, "training.device=cuda", "--until", stage]
            found |= {stage: cli.main(command), f"{stage} s": round(time.monotonic() - start, 1)}
            found[f"{stage} MB"] = _peak_mb()
        return {**found, "waits": sum(device.waits.values()), "launches": sum(device.launches.values())}


def _peak_mb() -> int:
    """Most memory that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))
