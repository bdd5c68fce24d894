"""Whatever one dialect can say, a model's own body at InvokeModel says too, or the loss is reported."""

from __future__ import annotations

import pytest
from hypothesis import given

from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from tests.contract.test_no_silent_loss import GIVEN, Fact, requests, sent, silently_lost
from tests.support.loss_table import INVOKE_UPSTREAMS

GOES_WITHOUT_SAYING = ("tool choice", "auto", None)
FORMS = {upstream.dialect: upstream for upstream in INVOKE_UPSTREAMS}


def gone(asked: ChatRequest, losses: list[Loss], arrived: ChatRequest) -> list[Fact]:
    return [fact for fact in silently_lost(asked, losses, arrived) if fact != GOES_WITHOUT_SAYING]


@pytest.mark.parametrize("form", FORMS)
@GIVEN
@given(asked=requests())
def test_what_is_not_reported_arrives(form: str, asked: ChatRequest) -> None:
    result = sent(FORMS[form], asked)
    if result is not None:
        arrived, losses = result
        assert gone(asked, losses, arrived) == []


@pytest.mark.parametrize("caller", FORMS)
@pytest.mark.parametrize("upstream", FORMS)
@GIVEN
@given(asked=requests())
def test_what_a_caller_can_say_arrives_or_is_reported(caller: str, upstream: str, asked: ChatRequest) -> None:
    first = sent(FORMS[caller], asked)
    result = first and sent(FORMS[upstream], first[0])
    if first and result:
        arrived, losses = result
        assert gone(first[0], losses, arrived) == []
