"""The base install stays small: what serves needs neither torch nor 400 MB."""

from __future__ import annotations

import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
MOST_BYTES = 400_000_000


def base() -> dict[str, int]:
    """Bytes of every distribution that `pip install .` brings, by name: files and what Python compiled of them."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    left, sizes = [Requirement(line) for line in wanted], dict[str, int]()
    asked: set[tuple[str, str]] = set()
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        found = distribution(name)
        if name not in sizes:
            files = [file.locate() for file in found.files or ()]
            sizes[name] = sum(Path(str(file)).stat().st_size for file in files if Path(str(file)).exists())
        for extra in requirement.extras | {""}:
            if (name, extra) not in asked:
                asked.add((name, extra))
                further = [Requirement(line) for line in found.requires or ()]
                left += [one for one in further if one.marker is None or one.marker.evaluate({"extra": extra})]
    return sizes


def test_the_base_install_stays_under_400_mb_and_brings_no_training() -> None:
    sizes = base()
    ours = [file for package in ("pipeline", "models", "connectors", "alerts") for file in (ROOT / package).rglob("*")]
    own = sum(file.stat().st_size for file in ours if file.is_file())
    assert {"faust-streaming", "onnxruntime", "kafka-python", "cryptography"} <= sizes.keys()
    assert not {"torch", "transformers", "scikit-learn", "scipy", "pandas"} & sizes.keys()
    largest = sorted(sizes.items(), key=lambda entry: -entry[1])[:8]
    assert own + sum(sizes.values()) < MOST_BYTES, largest
