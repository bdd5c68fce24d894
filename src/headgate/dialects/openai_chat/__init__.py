"""OpenAI Chat Completions: `/chat/completions`, spoken by callers and upstreams alike."""

from headgate.core.call import Operation
from headgate.dialects import sse
from headgate.dialects.dialect import ChatDialect
from headgate.dialects.openai_chat.profile import COMPATIBLE, OPENAI, Profile
from headgate.dialects.openai_chat.request_decoder import decode_request
from headgate.dialects.openai_chat.request_encoder import encode_request
from headgate.dialects.openai_chat.result_codec import decode_result, encode_result
from headgate.dialects.openai_chat.stream_decoder import StreamDecoder
from headgate.dialects.openai_chat.stream_encoder import StreamEncoder
from headgate.dialects.openai_chat.vocabulary import NAME
from headgate.dialects.openai_errors import decode_error, encode_error
from headgate.dialects.openai_observer import BodyObserver, StreamObserver, observer
from headgate.dialects.openai_stream_usage import USAGE_FIELD, UsageStripper, ask_for_usage

OPENAI_CHAT = ChatDialect(
    name=NAME,
    operation=Operation.CHAT,
    path=lambda model, stream: "/chat/completions",
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
    "COMPATIBLE",
    "OPENAI",
    "OPENAI_CHAT",
    "BodyObserver",
    "Profile",
    "StreamDecoder",
    "StreamEncoder",
    "StreamObserver",
    "decode_error",
    "decode_request",
    "decode_result",
    "encode_error",
    "encode_request",
    "encode_result",
    "observer",
]
