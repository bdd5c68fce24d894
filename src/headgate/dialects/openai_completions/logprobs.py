"""Log probabilities: four parallel lists here, one list of entries in the neutral form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import JSON


def entries_from_wire(value: object) -> list[JSON] | None:
    """`{tokens, token_logprobs, top_logprobs, text_offset}` as entries; None where there are none."""
    if not isinstance(value, dict):
        return None
    tokens, scores, best = (value.get(key) for key in ("tokens", "token_logprobs", "top_logprobs"))
    if not isinstance(tokens, list) or not tokens:
        return None
    entries: list[JSON] = []
    for number, token in enumerate(tokens):
        if not isinstance(token, str):
            return None
        entries.append(
            {
                "token": token,
                "logprob": _item(scores, number),
                "bytes": _bytes(token),
                "top_logprobs": _alternatives(_item(best, number)),
            }
        )
    return entries


def _bytes(token: str) -> list[JSON]:
    return list(token.encode("utf-8", "surrogatepass"))


def _item(values: object, number: int) -> Any:
    return values[number] if isinstance(values, list) and number < len(values) else None


def _alternatives(value: object) -> list[JSON]:
    if not isinstance(value, dict):
        return []
    return [{"token": token, "logprob": score, "bytes": _bytes(token)} for token, score in value.items()]


_TOLD = frozenset({"token", "logprob", "bytes", "top_logprobs"})


def losses_of(entries: Sequence[JSON], choice: int) -> list[Loss]:
    """Fields of token entries that have no place here."""
    names = {key for entry in entries if isinstance(entry, dict) for key in entry.keys() - _TOLD}
    path = f"choices[{choice}].logprobs"
    return [Loss(f"{path}.{name}", "the dialect has no such field") for name in sorted(names)]


def entries_to_wire(entries: Sequence[JSON], offset: int = 0) -> dict[str, Any]:
    """The four lists; `offset` is where the first token stands in the choice's text, in characters."""
    wire: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for entry in entries:
        fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
        token, best = fields.get("token"), fields.get("top_logprobs")
        text = token if isinstance(token, str) else ""
        wire["tokens"].append(text)
        wire["token_logprobs"].append(fields.get("logprob"))
        wire["top_logprobs"].append(
            {
                each["token"]: each.get("logprob")
                for each in (best if isinstance(best, list) else ())
                if isinstance(each, dict) and isinstance(each.get("token"), str)
            }
        )
        wire["text_offset"].append(offset)
        offset += len(text)
    return wire
