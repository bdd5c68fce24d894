"""The Gemini API: `models/{model}:generateContent` and its sisters, spoken by callers and upstreams alike.

Routes are below a base URL such as `https://host/v1beta`; they name the model and say whether an answer
streams.
"""

from functools import partial

from headgate.core.call import Operation
from headgate.dialects import sse
from headgate.dialects.dialect import ChatDialect, CountDialect, EmbedDialect
from headgate.dialects.gemini import counting, embeddings
from headgate.dialects.gemini.errors import decode_error, encode_error
from headgate.dialects.gemini.models import ModelEntry, encode_model, encode_models
from headgate.dialects.gemini.observer import observer
from headgate.dialects.gemini.request_decoder import decode_request
from headgate.dialects.gemini.request_encoder import encode_request
from headgate.dialects.gemini.result_codec import decode_result, encode_result
from headgate.dialects.gemini.stream_decoder import StreamDecoder
from headgate.dialects.gemini.stream_encoder import StreamEncoder
from headgate.dialects.gemini.vocabulary import NAME


def _path(method: str, model: str, stream: bool) -> str:
    return f"/models/{model}:{method}"


def _chat_path(model: str, stream: bool) -> str:
    return f"/models/{model}:streamGenerateContent?alt=sse" if stream else f"/models/{model}:generateContent"


GEMINI = ChatDialect(
    name=NAME,
    operation=Operation.CHAT,
    path=_chat_path,
    model_in_body=False,
    stream_types={"sse": sse.CONTENT_TYPE, "json_array": "application/json"},
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

GEMINI_COUNT = CountDialect(
    name="gemini_count",
    operation=Operation.COUNT_TOKENS,
    path=partial(_path, "countTokens"),
    model_in_body=False,
    decode_request=counting.decode_request,
    encode_request=counting.encode_request,
    encode_result=counting.encode_result,
    decode_result=counting.decode_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
)

GEMINI_EMBED = EmbedDialect(
    name="gemini_embed",
    operation=Operation.EMBED,
    path=partial(_path, "embedContent"),
    model_in_body=False,
    decode_request=embeddings.decode_one,
    encode_request=embeddings.encode_one,
    encode_result=embeddings.encode_result_one,
    decode_result=embeddings.decode_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
)
"""One text for each request."""

GEMINI_EMBED_BATCH = EmbedDialect(
    name="gemini_embed_batch",
    operation=Operation.EMBED,
    path=partial(_path, "batchEmbedContents"),
    model_in_body=False,
    decode_request=embeddings.decode_batch,
    encode_request=embeddings.encode_batch,
    encode_result=embeddings.encode_result_batch,
    decode_result=embeddings.decode_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
)
"""Any number of texts, one too: what an upstream is best asked with."""

__all__ = [
    "GEMINI",
    "GEMINI_COUNT",
    "GEMINI_EMBED",
    "GEMINI_EMBED_BATCH",
    "ModelEntry",
    "StreamDecoder",
    "StreamEncoder",
    "decode_error",
    "decode_request",
    "decode_result",
    "encode_error",
    "encode_model",
    "encode_models",
    "encode_request",
    "encode_result",
    "observer",
]
