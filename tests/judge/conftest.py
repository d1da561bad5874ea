"""Fixtures of the judge's tests: sandboxes in two tiers, as who runs the tests and, where that is root, as an
ordinary user too; each made once."""

import os
from collections.abc import Callable, Iterator

import pytest
from judge_bench import Bench, UserBench

from kiyas.judge import SandboxError, Tier
from kiyas.judge.tiers import probe_tier

Place = Bench | UserBench


@pytest.fixture(scope="session")
def strong() -> None:
    report = probe_tier(Tier.STRONG)
    if not report.holds:
        pytest.skip(f"the tier strong does not hold here: {report.reason}")


@pytest.fixture(scope="session")
def place_named() -> Iterator[Callable[[str], Place]]:
    """By tier, and with `-user` as an ordinary user. Skips, with the reason, what is not to be had."""
    made: dict[str, Place | str] = {}

    def get(name: str) -> Place:
        if name not in made:
            tier, _, user = name.partition("-")
            try:
                if user and os.geteuid() != 0:
                    raise SandboxError("the tests run as an ordinary user already")
                made[name] = (UserBench if user else Bench)(Tier(tier))
            except SandboxError as error:
                made[name] = f"{name}: {error}"
        place = made[name]
        if isinstance(place, str):
            pytest.skip(place)
        return place

    yield get
    for place in made.values():
        if not isinstance(place, str):
            place.close()


@pytest.fixture(scope="session")
def bench(strong: None, place_named: Callable[[str], Place]) -> Place:
    return place_named("strong")


@pytest.fixture(scope="session")
def weak_bench(place_named: Callable[[str], Place]) -> Place:
    return place_named("weak")


@pytest.fixture(scope="session")
def standard_bench(place_named: Callable[[str], Place]) -> Place:
    return place_named("standard")


@pytest.fixture(
    params=["strong", "standard", *(pytest.param(f"{t}-user", marks=pytest.mark.slow) for t in ("strong", "standard"))]
)
def place(request: pytest.FixtureRequest, place_named: Callable[[str], Place]) -> Place:
    return place_named(request.param)
