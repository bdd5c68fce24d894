"""What the rerank dialects share: documents and scores as JSON, and usage in the vendors' several places.

Requests and answers of Cohere and Jina have the same fields; TEI's have names of their own.
"""

from __future__ import annotations

from typing import Any

import msgspec
from typing_extensions import override

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken
from headgate.core.loss import Loss
from headgate.core.messages import Extensions
from headgate.core.operations import Ranked, RerankRequest, RerankResult
from headgate.dialects.json_bodies import Fields, decode_object, join, missing, wrong_type, wrong_value
from headgate.dialects.openai_embeddings import body_model, foreign_losses, unread
from headgate.dialects.openai_errors import error_within
from headgate.dialects.openai_observer import BodyObserver, object_after


def text_list(fields: Fields, key: str) -> tuple[str, ...]:
    """A list of texts that must not be empty; `{"text": …}` in place of a text is read as well.

    Raises:
        InvalidRequest: with `param` naming the item ("documents[3].text").
    """
    items = fields.items(key)
    if items is None:
        raise missing(fields.param(key))
    if not items:
        raise wrong_value(fields.param(key), "the array must not be empty")
    return tuple(_text(item, join(fields.param(key), index)) for index, item in enumerate(items))


def _text(item: object, path: str) -> str:
    if isinstance(item, str):
        return item
    if not isinstance(item, dict):
        raise wrong_type(path, "a string", item)
    fields = Fields(item, path)
    text = fields.required_text("text")
    if unknown := sorted(fields.rest()):
        raise wrong_value(join(path, unknown[0]), "only texts can be handed on to this model's target")
    return text


def decode_query(name: str, body: bytes, model: str | None, *, returns_documents: bool) -> RerankRequest:
    """A request of the dialect `name`, as Cohere and Jina have it.

    Args:
        model: in place of the body's own, where the route holds it.
        returns_documents: what is meant where the request does not say.

    Raises:
        InvalidRequest: with `param` naming the field ("documents[3].text").
    """
    fields = Fields(decode_object(body))
    returns = fields.boolean("return_documents")
    return RerankRequest(
        model=body_model(fields, model),
        query=fields.required_text("query"),
        documents=text_list(fields, "documents"),
        top_n=fields.integer("top_n", 1),
        return_documents=returns_documents if returns is None else returns,
        extensions=known_fields(name, fields),  # last: what nobody has taken by now
    )


def encode_query(name: str, request: RerankRequest, model: str | None) -> tuple[dict[str, Any], list[Loss]]:
    """The request for an upstream of the dialect `name`, and what had no place in it.

    Documents are not asked back: the request has them.
    """
    wire: dict[str, Any] = {
        "model": model or request.model,
        "query": request.query,
        "documents": request.documents,
    }
    if request.top_n is not None:
        wire["top_n"] = request.top_n
    return wire | dict(request.extensions.get(name, {})), foreign_losses(request.extensions, name)


def encode_ranked(request: RerankRequest, result: RerankResult) -> list[dict[str, Any]]:
    """The list of an answer, with the documents where they were asked for.

    Raises:
        StreamBroken: a document that the request has not.
    """
    return [
        {"index": each.index, "relevance_score": each.score}
        | ({"document": {"text": request.documents[each.index]}} if request.return_documents else {})
        for each in wanted(request, result)
    ]


def decode_ranked(name: str, body: bytes) -> RerankResult:
    """An upstream's answer of status 200 in the dialect `name`; Cohere's does not say the model.

    Raises:
        StreamBroken: it is not what was asked for.
        UpstreamError: it holds an error instead.
    """
    value = decode_json(body)
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    ranked = ranked_from_wire(fields.get("results"), "relevance_score")
    model, identity = (fields.get(key) for key in ("model", "id"))
    return RerankResult(
        model if isinstance(model, str) else "",
        ranked,
        usage_from_answer(value),
        identity if isinstance(identity, str) else None,
        unread(name, uncounted(fields), _ANSWERED),
    )


_ANSWERED = frozenset({"id", "model", "object", "results", "usage"})


def uncounted(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without those fields of its `meta` that count tokens, or tell the version."""
    meta = answer.get("meta")
    if not isinstance(meta, dict):
        return answer
    rest = {key: value for key, value in meta.items() if key not in ("api_version", "tokens")}
    if isinstance(billed := rest.get("billed_units"), dict):
        rest["billed_units"] = {key: value for key, value in billed.items() if key != "input_tokens"}
    rest = {key: value for key, value in rest.items() if value}
    return {**answer, "meta": rest or None}


def known_fields(name: str, fields: Fields) -> Extensions:
    """What nobody has taken, nulls left out."""
    rest = {key: value for key, value in fields.rest().items() if value is not None}
    return {name: rest} if rest else {}


def decode_json(body: bytes) -> Any:
    """An upstream's answer of status 200. Raises StreamBroken; UpstreamError where it holds an error."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not JSON, or was cut.") from None
    if isinstance(value, dict) and value.get("error"):
        raise error_within(value)
    return value


def ranked_from_wire(items: object, score: str) -> tuple[Ranked, ...]:
    """Best first. Raises StreamBroken where an item has no index or no score, or an index comes twice."""
    if not isinstance(items, list):
        raise StreamBroken("The upstream's answer is not a list of ranked documents.")
    ranked: list[Ranked] = []
    for number, item in enumerate(items):
        each = _ranked(item, score)
        if each is None:
            raise StreamBroken(f"The upstream's ranked document number {number} can't be read.")
        ranked.append(each)
    if len({each.index for each in ranked}) < len(ranked):
        raise StreamBroken("The upstream ranked one document twice.")
    return tuple(sorted(ranked, key=lambda each: -each.score))


def _ranked(item: object, score: str) -> Ranked | None:
    if not isinstance(item, dict):
        return None
    index, value = item.get("index"), item.get(score)
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return Ranked(index, float(value))
    except OverflowError:
        return None


def wanted(request: RerankRequest, result: RerankResult) -> tuple[Ranked, ...]:
    """The best `top_n`, whether or not the upstream knew of the limit.

    Raises:
        StreamBroken: a document that the request has not.
    """
    if any(each.index >= len(request.documents) for each in result.ranked):
        raise StreamBroken("The upstream ranked a document that was not in the request.")
    return result.ranked[: request.top_n]


def usage_from_answer(value: object) -> Usage:
    """Tokens as `usage` (Jina, vLLM; a total alone is what went in) or as `meta.tokens`,
    `meta.billed_units` (Cohere)."""
    if not isinstance(value, dict):
        return Usage()
    meta = value.get("meta")
    places = [value.get("usage")]
    if isinstance(meta, dict):
        places += [meta.get("tokens"), meta.get("billed_units")]
    for place in places:
        if not isinstance(place, dict):
            continue
        for key in ("prompt_tokens", "input_tokens", "total_tokens"):
            count = place.get(key)
            if isinstance(count, int | float) and not isinstance(count, bool) and count >= 0:
                return Usage(input_tokens=int(count))
    return Usage()


class AnswerObserver(BodyObserver):
    """For plain answers whose usage stands under `meta`, or is a total alone."""

    __slots__ = ()

    @override
    def _note(self, data: bytes) -> bool:
        try:
            answer = _ANSWER.decode(data)
        except msgspec.ValidationError:
            return _is_json(data)  # lists of some vendors; usage is nowhere in them
        except RecursionError:
            return True
        except ValueError:
            return False
        self._read({"meta": answer.meta, "usage": answer.usage})
        self.failed = answer.error is not None
        return True

    @override
    def _read_end(self, tail: bytes) -> None:
        for key in ("usage", "meta"):
            found = object_after(tail, b'"%b"' % key.encode())
            if found is not None and self.usage is None:
                self._read({key: found})

    def _read(self, value: dict[str, Any]) -> None:
        usage = usage_from_answer(value)
        if usage != Usage():
            self.usage = usage


class _Answer(msgspec.Struct):
    meta: Any = None
    usage: Any = None
    error: Any = None


_ANSWER = msgspec.json.Decoder(_Answer)
_ANYTHING = msgspec.json.Decoder(msgspec.Raw)


def _is_json(data: bytes) -> bool:
    try:
        _ANYTHING.decode(data)
    except (ValueError, RecursionError):
        return False
    return True


def observer(stream: bool, content_type: str) -> AnswerObserver:
    """These operations have no streams."""
    return AnswerObserver()
