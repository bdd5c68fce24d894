"""Counts of tokens in the header fields of InvokeModel's whole answers, whatever the form of their bodies.

The body of some forms holds none. Tokens read from and written to the cache are counted beside the input
tokens, as Converse has it. AWS documents these fields nowhere; LangChain and LiteLLM read them.
"""

from __future__ import annotations

from headgate.core.backend import RawHeaders
from headgate.core.call import Usage
from headgate.dialects.dialect import UsageHeaders

PREFIX = b"x-amzn-bedrock-"
_INPUT = PREFIX + b"input-token-count"
_OUTPUT = PREFIX + b"output-token-count"
_READ = PREFIX + b"cache-read-input-token-count"
_WRITTEN = PREFIX + b"cache-write-input-token-count"


def read_usage(headers: RawHeaders) -> Usage | None:
    """The counts of an upstream's answer; None where it tells neither input nor output."""
    found = {name: int(value) for name, value in headers if name.startswith(PREFIX) and _is_count(value)}
    sent, received = found.get(_INPUT), found.get(_OUTPUT)
    if sent is None and received is None:
        return None
    cached, written = found.get(_READ), found.get(_WRITTEN)
    if sent is not None:
        sent += (cached or 0) + (written or 0)
    return Usage(sent, received, cached, written)


def write_usage(usage: Usage) -> RawHeaders:
    """For a caller's answer: what is known."""
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    sent = usage.input_tokens
    told = (
        (_INPUT, None if sent is None else max(sent - cached - written, 0)),
        (_OUTPUT, usage.output_tokens),
        (_READ, cached or None),
        (_WRITTEN, written or None),
    )
    return [(name, b"%d" % count) for name, count in told if count is not None]


def _is_count(value: bytes) -> bool:
    return len(value) < 16 and value.isdigit()


USAGE_HEADERS = UsageHeaders(read_usage, write_usage)
