"""Waiting for a page that allows no eval."""

from __future__ import annotations

import time
from typing import Any

import pytest


def until(page: Any, expression: str, seconds: float = 30.0) -> None:
    """Waits until the expression is true. Playwright's own wait evaluates it in the page, whose policy refuses that."""
    latest = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > latest:
            pytest.fail(f"not within {seconds:.0f} s: {expression}")
        page.wait_for_timeout(20)
