"""Official SDKs, each used as its documentation says."""

from tests.e2e.sdk.clients.anthropic import AnthropicClient
from tests.e2e.sdk.clients.client import KEY, Client
from tests.e2e.sdk.clients.converse import ConverseClient
from tests.e2e.sdk.clients.gemini import GeminiClient
from tests.e2e.sdk.clients.openai_chat import OpenAIChatClient
from tests.e2e.sdk.clients.openai_responses import OpenAIResponsesClient

CLIENTS: dict[str, type[Client]] = {
    "openai": OpenAIChatClient,
    "openai-responses": OpenAIResponsesClient,
    "anthropic": AnthropicClient,
    "google-genai": GeminiClient,
    "boto3": ConverseClient,
}

__all__ = ["CLIENTS", "KEY", "Client"]
