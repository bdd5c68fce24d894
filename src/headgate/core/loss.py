"""What a translation could not carry over: never silent."""

from __future__ import annotations

from headgate.core.record import record

MAX_SHOWN = 200
"""Characters of a path, and of a reason, that a header or a log line shows."""


@record(frozen=True, slots=True)
class Loss:
    """One thing that the other dialect has no place for.

    `path` says where it was, in the caller's request (`messages[2].content[0].cache_control`); `reason`
    says why it is gone. Neither holds any of the payload, but the names of fields in a path are the sender's,
    as are an upstream's words in a reason: `place` and `line` are what may be shown.
    """

    path: str
    reason: str

    @property
    def place(self) -> str:
        """The path in one line of at most MAX_SHOWN characters."""
        return _shown(self.path)

    @property
    def line(self) -> str:
        """Place and reason, for a log or a message."""
        return f"{self.place}: {_shown(self.reason)}"


def _shown(text: str) -> str:
    if len(text) > MAX_SHOWN:
        text = text[: MAX_SHOWN - 3] + "..."
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)
