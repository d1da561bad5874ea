"""Which arms read the same data: the same file, the same content at two paths, or one data set on the Hub."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from kiyas.study.settings import Arm, Study


@dataclass(frozen=True)
class Same:
    """Two arms that read the same data, and where from: one source, or two of equal content."""

    a: str
    b: str
    sources: tuple[str, ...]


def same_sources(study: Study) -> list[Same]:
    """Every two arms that read the same data. Only files of equal size are read."""
    named = {name: (arm.dataset_name, arm) for name, arm in study.arms.items() if arm.dataset_name is not None}
    sizes = Counter(Path(source).stat().st_size for source, _ in named.values() if Path(source).is_file())
    keys = {name: _content(source, arm, sizes) for name, (source, arm) in named.items()}
    return [
        Same(a, b, tuple(dict.fromkeys((named[a][0], named[b][0]))))
        for a, b in itertools.combinations(named, 2)
        if keys[a] == keys[b]
    ]


def _content(source: str, arm: Arm, sizes: Counter[int]) -> Hashable:
    """What two arms of the same data have in common."""
    path = Path(source)
    if not path.is_file() or sizes[path.stat().st_size] < 2:
        return source, arm.dataset_config, arm.revision
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
