"""`python -m pipeline.demo.picture FILE.svg`: a picture of the view, taken in the middle of a real run."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from pipeline.demo.day import seconds
from pipeline.demo.screens import PlainScreen
from pipeline.demo.stage import Options, perform
from pipeline.demo.view import Scene, View

AT_S = seconds("14:08:00")
SIZE = (120, 36)
THEME = TerminalTheme(
    (24, 26, 31), (214, 216, 220),
    [(24, 26, 31), (214, 79, 79), (47, 158, 98), (200, 150, 60), (61, 132, 214), (160, 100, 190), (60, 160, 170),
     (214, 216, 220)],
)  # fmt: skip


class PictureScreen(PlainScreen):
    """Prints lines, and writes the picture once its time has come."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path: Path | None = path

    def show(self, scene: Scene) -> None:
        """A line, or the picture."""
        super().show(scene)
        if self._path is not None and scene.clock_s >= AT_S:
            path, self._path = self._path, None
            path.write_text(picture(scene), encoding="utf-8")
            self.line(f"wrote {path}")


def picture(scene: Scene) -> str:
    """The view as SVG."""
    width, height = SIZE
    console = Console(
        record=True, file=io.StringIO(), width=width, height=height, force_terminal=True, color_system="truecolor",
        legacy_windows=False,
    )  # fmt: skip
    console.print(View(scene))
    return console.export_svg(title="ovoz demo", theme=THEME)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m pipeline.demo.picture FILE.svg")
    sys.exit(perform(Options(seconds=75), PictureScreen(Path(sys.argv[1]))))
