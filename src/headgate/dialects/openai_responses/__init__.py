"""OpenAI Responses: `/responses`, spoken by callers and upstreams alike.

What makes the API stateful (`store`, `previous_response_id`, `background`) is no matter of the codec: see
`headgate.server.responses`.
"""

from headgate.core.call import Operation
from headgate.dialects import sse
from headgate.dialects.dialect import ChatDialect
from headgate.dialects.openai_errors import decode_error, encode_error
from headgate.dialects.openai_responses.observer import BodyObserver, StreamObserver, observer
from headgate.dialects.openai_responses.request_decoder import decode_fields, decode_request
from headgate.dialects.openai_responses.request_encoder import COMPATIBLE, Profile, encode_request
from headgate.dialects.openai_responses.result_codec import decode_result, encode_result
from headgate.dialects.openai_responses.stream_decoder import StreamDecoder
from headgate.dialects.openai_responses.stream_encoder import StreamEncoder, echo_of
from headgate.dialects.openai_responses.vocabulary import NAME

OPENAI_RESPONSES = ChatDialect(
    name=NAME,
    operation=Operation.CHAT,
    path=lambda model, stream: "/responses",
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
)

__all__ = [
    "COMPATIBLE",
    "OPENAI_RESPONSES",
    "BodyObserver",
    "Profile",
    "StreamDecoder",
    "StreamEncoder",
    "StreamObserver",
    "decode_error",
    "decode_fields",
    "decode_request",
    "decode_result",
    "echo_of",
    "encode_error",
    "encode_request",
    "encode_result",
    "observer",
]
