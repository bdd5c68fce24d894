"""InvokeModel with bodies that hold one prompt: Amazon Titan Text, Meta Llama, Mistral."""

from functools import partial

from headgate.dialects.bedrock import prompt_answers as answers
from headgate.dialects.bedrock import prompt_requests as requests
from headgate.dialects.bedrock.chunks import Deltas, invoke_dialect
from headgate.dialects.bedrock.heard import observer
from headgate.dialects.bedrock.prompt_forms import LLAMA, MISTRAL_TEXT, TITAN_TEXT, Form
from headgate.dialects.dialect import ChatDialect


def _record(form: Form) -> ChatDialect:
    return invoke_dialect(
        form.name,
        decode_request=partial(requests.decode_request, form=form),
        encode_request=partial(requests.encode_request, form=form),
        stream_encoder=partial(answers.StreamEncoder, form=form),
        stream_decoder=lambda content_type: answers.StreamDecoder(form),
        encode_result=partial(answers.encode_result, form=form),
        decode_result=partial(answers.decode_result, form=form),
        observer=partial(observer, read=partial(answers.heard, form=form)),
        deltas=Deltas(),
    )


INVOKE_TITAN = _record(TITAN_TEXT)
INVOKE_LLAMA = _record(LLAMA)
INVOKE_MISTRAL = _record(MISTRAL_TEXT)
