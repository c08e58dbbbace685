"""Servers that nobody here wrote, for the proofs of connectors: each on loopback and a free port."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NoReturn

import pytest

SERVERS: Final = Path(os.environ.get("OVOZ_TEST_SERVERS") or Path(__file__).parents[2] / ".venv" / "servers")
"""Where `make .venv/.servers` puts what comes from PyPI and npm."""


def missing(what: str) -> NoReturn:
    """Skip the test with a word; under CI, which installs what the tests need, fail."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(what)
    pytest.skip(what)
