"""Anthropic Messages: `/v1/messages` and its token counter, spoken by callers and upstreams alike."""

from headgate.core.call import Operation
from headgate.dialects import sse
from headgate.dialects.anthropic.count import decode_count, encode_count
from headgate.dialects.anthropic.errors import decode_error, encode_error
from headgate.dialects.anthropic.models import ModelEntry, encode_models
from headgate.dialects.anthropic.observer import BodyObserver, StreamObserver, observer
from headgate.dialects.anthropic.request_decoder import decode_count_request, decode_request
from headgate.dialects.anthropic.request_encoder import encode_count_request, encode_request
from headgate.dialects.anthropic.result_codec import decode_result, encode_result
from headgate.dialects.anthropic.stream_decoder import StreamDecoder
from headgate.dialects.anthropic.stream_encoder import StreamEncoder
from headgate.dialects.anthropic.vocabulary import NAME
from headgate.dialects.dialect import ChatDialect, CountDialect

CALLER_HEADERS = frozenset({b"anthropic-version", b"anthropic-beta"})
HEADERS = ((b"anthropic-version", b"2023-06-01"),)

ANTHROPIC = ChatDialect(
    name=NAME,
    operation=Operation.CHAT,
    path=lambda model, stream: "/messages",
    caller_headers=CALLER_HEADERS,
    headers=HEADERS,
    stream_types={"sse": sse.CONTENT_TYPE},
    decode_request=decode_request,
    encode_request=encode_request,
    stream_encoder=StreamEncoder,
    stream_decoder=StreamDecoder,
    encode_result=encode_result,
    decode_result=decode_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
)

ANTHROPIC_COUNT = CountDialect(
    name="anthropic_count",
    operation=Operation.COUNT_TOKENS,
    caller_headers=CALLER_HEADERS,
    headers=HEADERS,
    path=lambda model, stream: "/messages/count_tokens",
    decode_request=decode_count_request,
    encode_request=encode_count_request,
    encode_result=encode_count,
    decode_result=decode_count,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
)

__all__ = [
    "ANTHROPIC",
    "ANTHROPIC_COUNT",
    "BodyObserver",
    "ModelEntry",
    "StreamDecoder",
    "StreamEncoder",
    "StreamObserver",
    "decode_count",
    "decode_count_request",
    "decode_error",
    "decode_request",
    "decode_result",
    "encode_count",
    "encode_count_request",
    "encode_error",
    "encode_models",
    "encode_request",
    "encode_result",
    "observer",
]
