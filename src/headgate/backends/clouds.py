"""Vendors whose addresses and credentials are put together from settings: Azure OpenAI, Vertex AI, Bedrock.

Sources: Microsoft, "Azure OpenAI REST API reference" and "API version lifecycle"; Google Cloud, "Vertex AI
API: generateContent"; AWS, "Amazon Bedrock Runtime" and "Amazon Bedrock API keys".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from pydantic import Field, SecretStr, field_validator

from headgate.backends.presets import RESPONSES, chat, completions, embeddings
from headgate.backends.registry import BackendType, BuildContext
from headgate.backends.remote import Endpoint, Preset, RemoteBackend, RemoteSettings, remote
from headgate.config.schema import ConfigPath, TargetSettings
from headgate.core.backend import Backend
from headgate.core.call import Operation
from headgate.core.errors import ConfigError
from headgate.dialects.invoke_forms import CHAT_FORMS, EMBED_FORMS, forms_of
from headgate.dialects.openai_chat import profile as profiles
from headgate.upstream.credentials import Credentials, EntraToken, GoogleServiceAccount, SigV4

_RESPONSES = replace(RESPONSES, anywhere=True)  # every address is a resource of one's own


BEDROCK_KEY_ENV = "AWS_BEARER_TOKEN_BEDROCK"

_DEPLOYMENT_PATHS: Mapping[str, str] = {
    "openai_chat": "chat/completions",
    "openai_completions": "completions",
    "openai_embeddings": "embeddings",
}
_PUBLISHER = "/v1/projects/{project}/locations/{location}/publishers/google/models/{model}:{verb}"
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]*")


def _segment(value: str) -> str:
    if not _SEGMENT.fullmatch(value):
        raise ValueError("it becomes a part of an address: letters, digits, '-', '.' and ':' only")
    return value


class AzureSettings(RemoteSettings):
    """A target at Azure OpenAI; `model` is the name of the deployment."""

    api_version: str | None = Field(
        default=None,
        description="Version of the API, `2024-10-21`: deployments are then addressed by path. Without it,"
        " the resource's `/openai/v1`.",
    )
    tenant_id: str | None = Field(default=None, description="Tenant of Microsoft Entra ID.")
    client_id: str | None = Field(default=None, description="Application in that tenant.")
    client_secret: SecretStr | None = Field(default=None, description="The application's secret.")


class VertexSettings(RemoteSettings):
    """A target at Vertex AI."""

    project: str = Field(description="Project of Google Cloud.")
    location: str = Field(default="global", description="Region, `europe-west4`, or `global`.")
    key_file: ConfigPath | None = Field(
        default=None,
        description="JSON key of a service account; Application Default Credentials when left out.",
    )

    _segments = field_validator("project", "location")(_segment)


class BedrockSettings(RemoteSettings):
    """A target at Amazon Bedrock; `dialects` are those that its model takes, where its name does not tell."""

    region: str = Field(description="Region of AWS, `eu-central-1`.")
    profile: str | None = Field(default=None, description="Profile of the shared AWS configuration.")
    access_key: str | None = Field(default=None, description="AWS access key, in place of the usual chain.")
    secret_key: SecretStr | None = Field(default=None, description="Secret of `access_key`.")
    session_token: SecretStr | None = Field(default=None, description="Session token of `access_key`.")

    _segments = field_validator("region")(_segment)


def _azure_credentials(settings: AzureSettings) -> Credentials | None:
    if settings.api_key is not None:
        return None
    return EntraToken(settings.tenant_id, settings.client_id, _revealed(settings.client_secret))


AZURE_PRESET = Preset(
    "azure-openai",
    {
        Operation.CHAT: (chat(profiles.AZURE_OPENAI), completions(profiles.AZURE_OPENAI), _RESPONSES),
        Operation.EMBED: (embeddings(),),
    },
    version="/openai/v1",
    auth_header="api-key",
    auth_scheme="",
    settings=AzureSettings,
    credentials=_azure_credentials,
)


def azure_preset(settings: AzureSettings) -> Preset:
    """With the routes of deployments where a version of the API is given."""
    if settings.api_version is None:
        return AZURE_PRESET
    query = f"?api-version={quote(settings.api_version, safe='')}"
    endpoints = {
        operation: tuple(
            replace(each, path=f"/openai/deployments/{{model}}/{_DEPLOYMENT_PATHS[each.dialect]}{query}")
            for each in found
            if each.dialect in _DEPLOYMENT_PATHS
        )
        for operation, found in AZURE_PRESET.endpoints.items()
    }
    return replace(AZURE_PRESET, endpoints=endpoints, version="")


def _vertex_credentials(settings: VertexSettings) -> Credentials | None:
    return GoogleServiceAccount(settings.key_file) if settings.api_key is None else None


def _vertex_address(settings: VertexSettings) -> str:
    region = "" if settings.location == "global" else f"{settings.location}-"
    return f"https://{region}aiplatform.googleapis.com"


def _bedrock_credentials(settings: BedrockSettings) -> Credentials | None:
    """A Bedrock API key where there is one, for the vendor's own address also from the environment."""
    if settings.api_key is not None or (settings.base_url is None and os.environ.get(BEDROCK_KEY_ENV)):
        return None
    return SigV4(
        settings.region,
        profile=settings.profile,
        access_key=settings.access_key,
        secret_key=_revealed(settings.secret_key),
        session_token=_revealed(settings.session_token),
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _build_azure(settings: TargetSettings, context: BuildContext) -> Backend:
    assert isinstance(settings, AzureSettings)
    return RemoteBackend(azure_preset(settings), settings, context)


def bedrock_preset(settings: BedrockSettings, model: str) -> Preset:
    """With the dialects that the model takes: those that the settings name, the first of them to translate
    into; else Converse and the body forms of the model's family; of a model that tells none, all.

    Raises:
        ConfigError: the settings name a dialect that Bedrock does not have.
    """
    every = {each.dialect: each for found in BEDROCK_PRESET.endpoints.values() for each in found}
    if unknown := [name for name in settings.dialects if name not in every]:
        raise ConfigError(
            f"models.{model}: Bedrock has no dialect {unknown[0]!r}; dialects takes {', '.join(every)}"
        )
    forms = forms_of(settings.model or model)
    told = ("converse", *forms) if CHAT_FORMS.keys() >= set(forms) else forms
    taken = settings.dialects or (told if forms else tuple(every))
    endpoints = {
        operation: found
        for operation in BEDROCK_PRESET.endpoints
        if (
            found := tuple(
                every[name] for name in taken if every[name] in BEDROCK_PRESET.endpoints[operation]
            )
        )
    }
    return replace(BEDROCK_PRESET, endpoints=endpoints)


def _build_bedrock(settings: TargetSettings, context: BuildContext) -> Backend:
    assert isinstance(settings, BedrockSettings)
    return RemoteBackend(bedrock_preset(settings, context.model), settings, context)


VERTEX_PRESET = Preset(
    "vertex",
    {
        Operation.CHAT: (Endpoint("gemini", _PUBLISHER),),
        Operation.COUNT_TOKENS: (Endpoint("gemini_count", _PUBLISHER),),
    },
    settings=VertexSettings,
    credentials=_vertex_credentials,
    address=_vertex_address,
    variables=lambda settings: {"project": settings.project, "location": settings.location},
)
BEDROCK_PRESET = Preset(
    "bedrock",
    {
        Operation.CHAT: (Endpoint("converse"), *map(Endpoint, CHAT_FORMS)),
        Operation.EMBED: tuple(map(Endpoint, EMBED_FORMS)),
    },
    key_env=BEDROCK_KEY_ENV,
    settings=BedrockSettings,
    credentials=_bedrock_credentials,
    address=lambda settings: f"https://bedrock-runtime.{settings.region}.amazonaws.com",
)

AZURE_OPENAI = BackendType(AzureSettings, _build_azure)
VERTEX = remote(VERTEX_PRESET)
BEDROCK = BackendType(BedrockSettings, _build_bedrock)
