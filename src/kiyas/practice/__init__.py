"""The practice world: a tiny base model, training sets and a benchmark that need no download.

Everything here is made by the project itself, from a grammar of small stdin/stdout problems; see
docs/practice.md. `kiyas demo` compares `practice/deep` (200 problems × 5 solutions) with `practice/diverse`
(1,000 problems × 1 solution).
"""

from __future__ import annotations

from pathlib import Path

from kiyas.practice.worlds import DATASETS, benchmark, dataset

__all__ = ["DATASETS", "base_path", "benchmark", "dataset"]


def base_path() -> Path:
    """Folder of the shipped base model: weights, tokenizer with chat template, provenance."""
    return Path(__file__).parent / "base"
