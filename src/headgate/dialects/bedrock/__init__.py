"""Amazon Bedrock: Converse. The body forms of InvokeModel have modules of their own, `invoke_…`."""

from urllib.parse import quote

from headgate.core.call import Operation
from headgate.dialects import eventstream, sse
from headgate.dialects.bedrock.errors import decode_error, encode_error
from headgate.dialects.bedrock.observer import observer
from headgate.dialects.bedrock.request_decoder import decode_request
from headgate.dialects.bedrock.request_encoder import encode_request
from headgate.dialects.bedrock.result_codec import decode_result, encode_result
from headgate.dialects.bedrock.stream_decoder import StreamDecoder
from headgate.dialects.bedrock.stream_encoder import StreamEncoder
from headgate.dialects.bedrock.vocabulary import NAME
from headgate.dialects.dialect import ChatDialect


def converse_path(model: str, stream: bool) -> str:
    """The model's id, which may be an ARN, is one segment of the path: `:` and `/` are escaped."""
    return f"/model/{quote(model, safe='')}/{'converse-stream' if stream else 'converse'}"


CONVERSE = ChatDialect(
    name=NAME,
    operation=Operation.CHAT,
    path=converse_path,
    stream_types={"eventstream": eventstream.CONTENT_TYPE, "sse": sse.CONTENT_TYPE},
    decode_request=decode_request,
    encode_request=encode_request,
    stream_encoder=StreamEncoder,
    stream_decoder=StreamDecoder,
    encode_result=encode_result,
    decode_result=decode_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
    model_in_body=False,
)

__all__ = [
    "CONVERSE",
    "StreamDecoder",
    "StreamEncoder",
    "converse_path",
    "decode_error",
    "decode_request",
    "decode_result",
    "encode_error",
    "encode_request",
    "encode_result",
    "observer",
]
