"""Scripted vendors, one for each dialect of an upstream."""

from tests.e2e.sdk.vendors.anthropic import Anthropic
from tests.e2e.sdk.vendors.converse import Converse
from tests.e2e.sdk.vendors.gemini import Gemini
from tests.e2e.sdk.vendors.openai_chat import OpenAIChat
from tests.e2e.sdk.vendors.openai_responses import OpenAIResponses
from tests.e2e.sdk.vendors.vendor import Vendor

VENDORS: dict[str, Vendor] = {
    vendor.name: vendor for vendor in (OpenAIChat(), OpenAIResponses(), Anthropic(), Gemini(), Converse())
}

__all__ = ["VENDORS", "Vendor"]
