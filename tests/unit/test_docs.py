"""The pages under docs/: every link leads somewhere, and every test that they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LATER: set[str] = set()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    missing = [link for link in local if not (page.parent / link).exists()]
    assert set(missing) <= LATER


def test_every_test_that_a_page_names_exists() -> None:
    tests = "\n".join(file.read_text(encoding="utf-8") for file in ROOT.glob("tests/**/test_*.py"))
    known = set(re.findall(r"^(?:async )?def (test_\w+)", tests, re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))}
    assert len(named) > 20
    assert named <= known, sorted(named - known)


def test_every_failure_in_operations_names_its_test() -> None:
    """A row without one says so with a dash, which few may."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    rows = [line for line in text[text.index("## What fails") :].splitlines() if line.startswith("| ")]
    cases = [row for row in rows if not row.startswith("| what ")]
    bare = [row for row in cases if "`test_" not in row]
    assert len(cases) > 25 and len(bare) <= 3, bare
