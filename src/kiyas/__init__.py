"""Kıyas: which training data makes the better code model?

    run = kiyas.run("study.yaml")     # trains, generates, judges, analyses, reports; resumes
    run.conclusion, run.table, run.judgments, run.curves
    kiyas.Run("runs/practice")        # any run folder, imported ones too
    kiyas.compare(["runs/mine", "runs/yours"])   # replications, pooled
    from kiyas.judge import judge     # the judge alone

Names are loaded when first used: importing kiyas is light.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Before anything loads transformers: it must not fetch code for a model from the Hub.
os.environ.setdefault("USE_HUB_KERNELS", "NO")

if TYPE_CHECKING:
    from kiyas.api import Comparison, KiyasError, Run, compare, run

    __version__: str

__all__ = ["Comparison", "KiyasError", "Run", "__version__", "compare", "run"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from kiyas.judge.version import VERSION

        return VERSION
    if name in __all__:
        from kiyas import api

        return getattr(api, name)
    raise AttributeError(f"module 'kiyas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
