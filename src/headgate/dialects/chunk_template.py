"""Telling a chunk that differs from an earlier one only in the text of one JSON string.

Chunks of one stream are alike but for a few characters. Whoever remembers what stands before and behind
those characters can read the next chunk by two comparisons, without parsing it. This is exact: if a chunk
begins with the prefix, which ends in the quote that opens a JSON string, ends with the suffix, which begins
with the quote that closes it, and holds no quote in between, then nothing but that string is new.
"""

from __future__ import annotations

import re
from typing import NamedTuple

CHAT_TEXT = re.compile(rb'"(?:content|arguments|reasoning_content|reasoning)"\s*:\s*"')
COMPLETION_TEXT = re.compile(rb'"text"\s*:\s*"')
ANY_TEXT = re.compile(rb'"(?:content|arguments|reasoning_content|reasoning|text)"\s*:\s*"')


class ChunkTemplate(NamedTuple):
    prefix: bytes
    suffix: bytes

    @classmethod
    def learn(cls, data: bytes, text: re.Pattern[bytes] = CHAT_TEXT) -> ChunkTemplate | None:
        """From one whole event as it came; None if it holds no text, or text with escapes.

        Args:
            text: matches up to the quote that opens the string.
        """
        found = text.search(data)
        if found is None:
            return None
        close = data.find(b'"', found.end())
        if close < 0 or b"\\" in data[found.end() : close]:
            return None
        return cls(data[: found.end()], data[close:])
