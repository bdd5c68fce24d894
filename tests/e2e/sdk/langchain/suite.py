"""`langchain-tests`' standard tests of its chat models, through a gateway that `HEADGATE_URL` names.

Runs in an environment of its own (see `tests.e2e.sdk.test_langchain`), so it imports nothing of Headgate's.
"""

# mypy: disable-error-code="import-not-found,misc,no-any-unimported,untyped-decorator"

from __future__ import annotations

import base64
import os
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests, chat_models
from typing_extensions import override

URL, KEY = os.environ["HEADGATE_URL"], os.environ["HEADGATE_KEY"]
MODEL = os.environ["HEADGATE_MODEL"]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PDF = b"%PDF-1.4\n1 0 obj\n<</Type/Catalog>>\nendobj\ntrailer<</Root 1 0 R>>\n%%EOF"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite would fetch its picture and its PDF from the Internet."""

    def get(url: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(content=PDF if url.endswith("pdf") else PNG)

    monkeypatch.setattr(chat_models, "httpx", SimpleNamespace(get=get))


class Standard(ChatModelIntegrationTests):
    vendor = ""

    @property
    @override
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": f"{MODEL}-{self.vendor}", **self.address}

    address: ClassVar[dict[str, Any]] = {}
    """How the client is pointed at the gateway."""

    @property
    @override
    def model_override_value(self) -> str | None:
        return f"{MODEL}-converse"

    @property
    @override
    def supports_image_inputs(self) -> bool:
        return True

    @property
    @override
    def supports_image_urls(self) -> bool:
        return False  # it would be fetched by the vendor

    @property
    @override
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    @override
    def supports_pdf_tool_message(self) -> bool:
        return True

    @property
    @override
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    @override
    def supports_json_mode(self) -> bool:
        return self.chat_model_class is ChatOpenAI


class OpenAI(Standard):
    chat_model_class = ChatOpenAI
    address: ClassVar[dict[str, Any]] = {
        "base_url": f"{URL}/v1",
        "api_key": KEY,
        "max_retries": 0,
        "stream_usage": True,
    }


class OpenAIResponses(OpenAI):
    @property
    @override
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "use_responses_api": True}


class Anthropic(Standard):
    chat_model_class = ChatAnthropic
    address: ClassVar[dict[str, Any]] = {"base_url": URL, "api_key": KEY, "max_retries": 0}

    @property
    @override
    def supports_anthropic_inputs(self) -> bool:
        return True


class Google(Standard):
    chat_model_class = ChatGoogleGenerativeAI
    address: ClassVar[dict[str, Any]] = {"base_url": URL, "api_key": KEY, "max_retries": 1}

    @property
    @override
    def model_override_value(self) -> str | None:
        return None  # the class takes no other model with a call


PAIRS: dict[type[Standard], tuple[str, ...]] = {
    OpenAI: ("openai_chat", "anthropic"),
    OpenAIResponses: ("anthropic",),
    Anthropic: ("anthropic", "gemini"),
    Google: ("gemini", "openai_chat"),
}
"""Before which vendors' dialects each class stands: its own, and another."""

for kind, vendors in PAIRS.items():
    for name in vendors:
        title = f"Test{kind.__name__}_{name}"
        globals()[title] = type(title, (kind,), {"vendor": name, "__module__": __name__})
