"""InvokeModel with bodies of Cohere's Command R models."""

from functools import partial

from headgate.dialects.bedrock.chunks import Deltas, invoke_dialect
from headgate.dialects.bedrock.command_r_answers import StreamDecoder, decode_result, heard
from headgate.dialects.bedrock.command_r_encoder import StreamEncoder, encode_result
from headgate.dialects.bedrock.command_r_requests import NAME, decode_request, encode_request
from headgate.dialects.bedrock.heard import observer

INVOKE_COHERE = invoke_dialect(
    NAME,
    decode_request=decode_request,
    encode_request=encode_request,
    stream_encoder=StreamEncoder,
    stream_decoder=lambda content_type: StreamDecoder(),
    encode_result=encode_result,
    decode_result=decode_result,
    observer=partial(observer, read=heard),
    deltas=Deltas(),
)
