"""Fixtures of the judge's tests: real data where it is to be had, one sandbox of the tier `strong` for all."""

from collections.abc import Iterator

import pytest
from judge_bench import Bench

from kiyas.judge import Tier
from kiyas.judge.tiers import probe_tier


@pytest.fixture(scope="session")
def strong() -> None:
    report = probe_tier(Tier.STRONG)
    if not report.holds:
        pytest.skip(f"the tier strong does not hold here: {report.reason}")


@pytest.fixture(scope="session")
def bench(strong: None) -> Iterator[Bench]:
    made = Bench(Tier.STRONG)
    yield made
    made.sandbox.close()


@pytest.fixture(scope="session")
def weak_bench() -> Iterator[Bench]:
    made = Bench(Tier.WEAK)
    yield made
    made.sandbox.close()


@pytest.fixture(scope="session")
def standard_bench() -> Iterator[Bench]:
    report = probe_tier(Tier.STANDARD)
    if not report.holds:
        pytest.skip(f"the tier standard does not hold here: {report.reason}")
    made = Bench(Tier.STANDARD)
    yield made
    made.sandbox.close()
