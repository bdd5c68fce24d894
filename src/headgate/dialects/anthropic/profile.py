"""In what Claude models differ from each other, as data.

Sources: Anthropic, "Troubleshooting thinking" (types, defaults, what each model rejects), "Effort" (the words
of each model), "Thinking" (sampling, forced tools, output limits) and the migration guides; Amazon Bedrock,
"Adaptive thinking".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

Mode = Literal["adaptive", "enabled"]

EFFORTS = ("low", "medium", "high", "xhigh", "max")
"""All effort words, the least first."""

MIN_BUDGET = 1024
"""Tokens; no model takes a smaller thinking budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Models that take the same.

    pattern: matches the whole of a model's short name, `opus-4.5`, `haiku-3`.
    modes: ways to think: `adaptive` as much as the model likes, `enabled` by a budget of tokens; or none.
    unasked: it thinks unless told not to; None: not known, so that only what was asked for is sent.
    off: the `thinking.type` that stops it; None: nothing does.
    off_efforts: the effort words that may stand beside `off`.
    efforts: the effort words that it takes.
    sampling: takes `temperature`, `top_p` and `top_k` where it does not think, else only their defaults.
    both: takes a `temperature` and a `top_p` at once.
    forced_tools: can be made to call a tool.
    system_turns: takes system messages among the turns.
    max_tokens: the most that it can write, by the headers of a beta if need be; None: not known.
    """

    pattern: str = ""
    modes: tuple[Mode, ...] = ()
    unasked: bool | None = False
    off: Literal["disabled", "between_tools"] | None = "disabled"
    off_efforts: tuple[str, ...] = EFFORTS
    efforts: tuple[str, ...] = ()
    sampling: bool = True
    both: bool = True
    forced_tools: bool = True
    system_turns: bool = False
    max_tokens: int | None = None


_NO_XHIGH = ("low", "medium", "high", "max")
_TO_HIGH = ("low", "medium", "high")

_ADAPTIVE = Family(modes=("adaptive",), efforts=EFFORTS, sampling=False, max_tokens=128_000)
_FIFTH = replace(_ADAPTIVE, unasked=True, system_turns=True)
_BY_BUDGET = Family(modes=("enabled",), both=False, max_tokens=64_000)

FAMILIES: tuple[Family, ...] = (
    replace(
        _FIFTH,
        pattern=r"(fable|mythos)-(5\.[1-9]|[6-9]).*|opus-(5\.[5-9]|[6-9]).*",
        off=None,
        forced_tools=False,
    ),
    replace(_FIFTH, pattern=r"(fable|mythos)-5.*", off=None),
    replace(
        _ADAPTIVE,
        pattern=r"mythos-preview",
        modes=("adaptive", "enabled"),
        unasked=True,
        off=None,
        efforts=_NO_XHIGH,
    ),
    replace(
        _FIFTH,
        pattern=r"sonnet-(5\.[5-9]|[6-9]).*",
        off="between_tools",
        off_efforts=_TO_HIGH,
        forced_tools=False,
    ),
    replace(_FIFTH, pattern=r"(opus|haiku)-[5-9].*", off_efforts=_TO_HIGH),
    replace(_FIFTH, pattern=r"sonnet-5.*", system_turns=False),
    replace(_ADAPTIVE, pattern=r"opus-4\.[89]", system_turns=True),
    replace(_ADAPTIVE, pattern=r"opus-4\.7"),
    Family(
        pattern=r"(opus|sonnet)-4\.6",
        modes=("adaptive", "enabled"),
        efforts=_NO_XHIGH,
        both=False,
        max_tokens=128_000,
    ),
    replace(_BY_BUDGET, pattern=r"opus-4\.5", efforts=_TO_HIGH),
    replace(_BY_BUDGET, pattern=r"(sonnet|haiku)-4\.5"),
    replace(_BY_BUDGET, pattern=r"opus-4\.1", max_tokens=32_000),
    Family(pattern=r"opus-4.*", modes=("enabled",), max_tokens=32_000),
    Family(pattern=r"(sonnet|haiku)-4.*", modes=("enabled",), max_tokens=64_000),
    Family(pattern=r"sonnet-3\.7", modes=("enabled",), max_tokens=128_000),
    Family(pattern=r".*-3\.5", max_tokens=8192),
    Family(pattern=r".*-[1-3](\..*)?", max_tokens=4096),
)

UNKNOWN = Family(
    modes=("adaptive", "enabled"), unasked=None, efforts=EFFORTS, system_turns=True, max_tokens=None
)
"""For names that tell nothing: whatever some model takes, as it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What the models of one upstream take; a row of the registry may bring its own.

    families: the first whose pattern fits counts.
    unknown: for all other names.
    """

    families: tuple[Family, ...] = FAMILIES
    unknown: Family = UNKNOWN

    def for_model(self, model: str) -> Family:
        name = short_name(model)
        if name is None:
            return self.unknown
        return next((each for each in self.families if re.fullmatch(each.pattern, name)), self.unknown)


ANTHROPIC = Profile()

_LINE_FIRST = re.compile(r"claude-(?P<line>[a-z]+)-v?(?P<version>\d+(?:[-.:]\d{1,2})?)(?!\d)")
_VERSION_FIRST = re.compile(r"claude-v?(?P<version>\d+(?:[-.:]\d{1,2})?)(?!\d)(?:-(?P<line>[a-z]+))?")
_PREVIEW = re.compile(r"claude-(mythos-preview)")


@lru_cache(maxsize=1024)
def short_name(model: str) -> str | None:
    """`opus-4.5` for whatever an upstream calls it: `claude-opus-4-5-20251101`, `anthropic--claude-4.5-opus`,
    `eu.anthropic.claude-opus-4-5-20251101-v1:0`. None where the name does not tell."""
    name = model.lower()
    if preview := _PREVIEW.search(name):
        return preview[1]
    found = _LINE_FIRST.search(name) or _VERSION_FIRST.search(name)
    if found is None:
        return None
    major, _, minor = re.sub("[-:]", ".", found["version"]).partition(".")
    version = major if minor in ("", "0") else f"{major}.{minor}"
    return f"{found['line'] or 'claude'}-{version}"
