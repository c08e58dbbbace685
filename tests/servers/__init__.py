"""Servers that nobody here wrote, for the proofs of connectors: each on loopback and a free port."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test with a word; under CI, which installs what the tests need, fail."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(what)
    pytest.skip(what)
