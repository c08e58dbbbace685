"""The alert rules of a worker: read, checked, and read again when the file has changed."""

from __future__ import annotations

import logging
import tomllib
from pathlib import Path

from alerts import rule as rules
from connectors.feedback import CHANNELS
from pipeline.toml_lines import line_of

log = logging.getLogger("ovoz.rules")


class RulesError(RuntimeError):
    """The rule file has faults; the message lists every one."""


def read_rules(path: Path | None) -> tuple[rules.Rule, ...]:
    """The alert rules of a file, or the default ones. Raises RulesError."""
    path = path or rules.DEFAULT_FILE
    try:
        source = path.read_text(encoding="utf-8")
        data = tomllib.loads(source)
    except (OSError, ValueError) as error:
        raise RulesError(f"{path}: {error}") from error
    found, faults = rules.parse(str(path), data, line_of(source), channels=CHANNELS)
    if faults:
        raise RulesError("\n".join(map(str, faults)))
    return found


class LiveRules:
    """Watches one rule file. What is wrong with a new version is said once, and the old one stays."""

    def __init__(self, path: Path | None) -> None:
        """Raises RulesError."""
        self._path = path
        self._seen = self._mark()
        self.rules = read_rules(path)

    def look(self) -> bool | None:
        """True: there are other rules now. False: the file changed and cannot be used. None: nothing new."""
        mark = self._mark()
        if mark == self._seen:
            return None
        self._seen = mark
        try:
            found = read_rules(self._path)
        except RulesError as error:
            log.error("the changed rule file is not used, the rules before it stay in force:\n%s", error)
            return False
        if found == self.rules:
            return None
        names = {rule.name for rule in self.rules}, {rule.name for rule in found}
        log.info("alert rules changed: %d in force, %d new, %d gone", len(found), len(names[1] - names[0]),
                 len(names[0] - names[1]))  # fmt: skip
        self.rules = found
        return True

    def _mark(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
