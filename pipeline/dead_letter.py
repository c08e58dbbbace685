"""The fuse on dead letters: a stage that reads almost nothing is ill itself, and stops."""

from __future__ import annotations

from collections import deque


class FuseBlown(RuntimeError):
    """Too much became a dead letter: the stage stops and acknowledges nothing further."""


class Fuse:
    """Blows when more than `share` of the last `items` records became dead letters.

    A bad release, which finds every record unreadable, so stalls with the topic intact instead of
    emptying it into `feedback.dead`.
    """

    def __init__(self, share: float, items: int) -> None:
        self._share = share
        self._items = items
        self._batches: deque[tuple[int, int]] = deque()
        self._seen = 0
        self._dead = 0

    def record(self, seen: int, dead: int) -> None:
        """Note a batch of `seen` records of which `dead` were unreadable. Raises FuseBlown."""
        self._batches.append((seen, dead))
        self._seen += seen
        self._dead += dead
        while self._batches and self._seen - self._batches[0][0] >= self._items:
            old_seen, old_dead = self._batches.popleft()
            self._seen -= old_seen
            self._dead -= old_dead
        if self._seen >= self._items and self._dead > self._share * self._seen:
            raise FuseBlown(
                f"{self._dead} of the last {self._seen} records were unreadable: look at them with `ovoz dead "
                f"list`; if they are, raise [worker] dead_letter_fuse_share; if they are not, go back a release"
            )
