"""The folder of one run: its settings, logs and database."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

from pipeline.settings_file import toml

SETTINGS: Final = "ovoz.toml"
SESSION_TIMEOUT_S: Final = 3
"""The embedded broker lets a group begin after half of it."""
MAX_AGE_MINUTES: Final = 3 * 1440
"""The day is yesterday: its items are up to two days old, and may page all the same."""


class FolderError(RuntimeError):
    """The folder cannot be used; says why and what to do."""


class Folder:
    """A temporary folder that goes with the run, or one of the user's that stays."""

    def __init__(self, keep: Path | None) -> None:
        """Raises FolderError for one that is not empty: an old run's numbers would be counted in."""
        self._temporary = keep is None
        if keep is None:
            self.path = Path(tempfile.mkdtemp(prefix="ovoz-demo-"))
            return
        try:
            keep.mkdir(parents=True, exist_ok=True)
            if any(keep.iterdir()):
                raise FolderError(f"{keep} is not empty: name a new folder")
        except OSError as error:
            raise FolderError(f"{keep} cannot be used: {error.strerror}") from error
        self.path = keep.resolve()

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    def write_settings(
        self,
        *,
        bootstrap: str,
        intake_port: int,
        metrics_port: int,
        token: str,
        receiver: str,
        alertmanager: str | None,
    ) -> Path:
        """Write the settings that all commands of the run share: the default rules, and only loopback."""
        sections: dict[str, dict[str, object]] = {
            "kafka": {"bootstrap": bootstrap},
            "store": {"url": f"sqlite:///{self.path / 'ovoz.db'}"},
            "ingest": {"port": intake_port, "data_dir": self.path / "intake"},
            "worker": {
                "port": metrics_port,
                "data_dir": self.path / "worker",
                "session_timeout_s": SESSION_TIMEOUT_S,
            },
            "alerts": {
                "apprise": [receiver],
                "alertmanager": [alertmanager] if alertmanager else [],
                "max_age_minutes": MAX_AGE_MINUTES,
            },
        }
        lines = ["# The settings of one run of `ovoz demo`."]
        for name, keys in sections.items():
            lines += ["", f"[{name}]", *(f"{key} = {toml(value)}" for key, value in keys.items())]
        digest = hashlib.sha256(token.encode()).hexdigest()
        lines += ["", "[[ingest.tokens]]", 'name = "demo"', f"sha256 = {toml(digest)}", ""]
        path = self.path / SETTINGS
        path.write_text("\n".join(lines), encoding="utf-8")
        return path
