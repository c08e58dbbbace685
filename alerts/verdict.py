"""What a notifier says when it could not deliver. It never tries again by itself: its driver does.

NotDelivered
├── Retryable    later: the driver waits
└── Permanent    never: this receiver, or the alerts that it names, will not be taken
"""

from __future__ import annotations


class NotDelivered(Exception):
    """Some alerts did not arrive. The message names no secret."""


class Retryable(NotDelivered):
    """Send the same again, after `retry_after_s` seconds where the receiver said so."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Permanent(NotDelivered):
    """Sending the same again is useless.

    `incidents` names the alerts that the receiver refuses; the others of the call were delivered. Empty
    means that the receiver takes none, such as with a wrong password: it stops until it is set right.
    """

    def __init__(self, reason: str, incidents: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.incidents = incidents
