"""Characters that were cut in two.

JavaScript counts texts in halves of UTF-16 pairs: a server that cuts one after so many of them may cut an
emoji, and write `"\\ud83d"` at the end of one delta and `"\\ude00"` at the start of the next. Parsers refuse
both, as RFC 8259, section 8.2, lets them.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair
    rb'|(?P<high>\\u[dD][89abAB][0-9a-fA-F]{2})(?P<end>"?)'
    rb'|(?P<start>"?)(?P<low>\\u[dD][c-fC-F][0-9a-fA-F]{2})'
    rb"|\\.",
    re.DOTALL,
)
"""Every escape, so that none is looked for within another."""
_UNKNOWN = b"\\ufffd"


class Surrogates:
    """The halves of characters in the events of one stream.

    A first half at the very end of a string waits for a second one at the very start of a string in a later
    event; every other half becomes U+FFFD.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting = b""

    def mend(self, data: bytes) -> bytes:
        """The JSON text of an event, without halves."""
        return _ESCAPE.sub(self._replace, data)

    def _replace(self, found: re.Match[bytes]) -> bytes:
        match found.lastgroup:
            case "end":
                if not found["end"]:
                    return _UNKNOWN
                self._waiting = found["high"]
                return found["end"]
            case "low":
                waiting, self._waiting = self._waiting, b""
                if not found["start"] or not waiting:
                    return found["start"] + _UNKNOWN
                return found["start"] + waiting + found["low"]
            case _:
                return found[0]
