"""The `ovoz` command as a user runs it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(**more: str) -> dict[str, str]:
    """Ours, without any setting of Ovoz but those given."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OVOZ_")}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **more}


def ovoz(
    *arguments: str, cwd: Path, stdin: bytes = b"", timeout: float = 60, **more: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end in the folder `cwd`; `more`: environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments], cwd=cwd, input=stdin, capture_output=True, timeout=timeout,
        env=environment(**more), check=False,
    )  # fmt: skip
