"""OpenAI's legacy Completions: `/completions`, spoken by callers and upstreams alike."""

from headgate.core.call import Operation
from headgate.dialects import sse
from headgate.dialects.dialect import ChatDialect
from headgate.dialects.openai_completions.request_codec import NAME, decode_request, encode_request
from headgate.dialects.openai_completions.result_codec import decode_result, encode_result
from headgate.dialects.openai_completions.stream_decoder import StreamDecoder
from headgate.dialects.openai_completions.stream_encoder import StreamEncoder
from headgate.dialects.openai_errors import decode_error, encode_error
from headgate.dialects.openai_observer import observer
from headgate.dialects.openai_stream_usage import USAGE_FIELD, UsageStripper, ask_for_usage

OPENAI_COMPLETIONS = ChatDialect(
    name=NAME,
    operation=Operation.CHAT,
    path=lambda model, stream: "/completions",
    stream_types={"sse": sse.CONTENT_TYPE},
    decode_request=decode_request,
    encode_request=encode_request,
    stream_encoder=StreamEncoder,
    stream_decoder=lambda content_type: StreamDecoder(),
    encode_result=encode_result,
    decode_result=decode_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
    ask_for_usage=ask_for_usage,
    usage_field=USAGE_FIELD,
    strip_usage=UsageStripper,
)

__all__ = [
    "NAME",
    "OPENAI_COMPLETIONS",
    "StreamDecoder",
    "StreamEncoder",
    "decode_request",
    "decode_result",
    "encode_request",
    "encode_result",
]
