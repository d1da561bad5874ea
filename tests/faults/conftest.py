"""One finished run, which every test of this folder copies or compares with."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.harness import undisturbed
from kiyas.runfolder.paths import RunDir


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="session")
def whole(expected: RunDir) -> Path:
    return expected.root
