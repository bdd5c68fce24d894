"""`llm-comply`'s checks of each format that it knows and Headgate serves, before every vendor."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.sdk.clients import KEY
from tests.e2e.sdk.conftest import ABLE
from tests.e2e.sdk.vendors import VENDORS
from tests.support.server import Running

comply, cli, config, runner, schema, tests = (
    importlib.import_module(f"llm_comply{module}")
    for module in ("", ".cli", ".config", ".runner", ".schema", ".tests")
)

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai-chat": ("/v1", {}),
    "open-responses": ("/v1", {}),
    "anthropic": ("/v1", {"auth_header": "x-api-key", "use_bearer_prefix": False}),
    "google-genai": ("", {"auth_header": "x-goog-api-key", "use_bearer_prefix": False}),
}
"""Path of the base URL, and how the key travels. Its format `google-interactions` is not served."""
CASES = [
    pytest.param(form, case.id, id=f"{form}-{case.id}") for form in FORMATS for case in tests.get_tests(form)
]


@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")
@pytest.mark.parametrize(("form", "case_id"), CASES)
@pytest.mark.parametrize("vendor", list(VENDORS))
def test_complies(gateway: Running, form: str, case_id: str, vendor: str) -> None:
    path, how = FORMATS[form]
    model = f"{ABLE}-{vendor}"
    wanted = config.ComplianceConfig(gateway.url + path, KEY, model=model, timeout=20, verbose=True, **how)
    case = next(case for case in tests.get_tests(form) if case.id == case_id)
    spec = cli._SPEC_FILES.get(form)
    specs = Path(str(comply.__file__)).parent / "specs"
    result = runner.TestRunner(
        wanted, [case], schema.SpecLoader(str(specs / spec) if spec else None)
    ).run_one(case)
    assert result.status.value == "passed", "\n".join(result.errors)
