"""LangChain's standard tests of ChatOpenAI, ChatAnthropic and ChatGoogleGenerativeAI, through the gateway.

They run in an environment of their own, `.venv/langchain`, made of `tests/e2e/sdk/langchain/requirements.in`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e2e.sdk.clients import KEY
from tests.e2e.sdk.conftest import ABLE
from tests.support.server import Running

ROOT = Path(__file__).parents[3]
SUITE = Path(__file__).parent / "langchain"
PYTHON = Path(os.environ.get("LANGCHAIN_PYTHON", ROOT / ".venv" / "langchain" / "bin" / "python"))
MODEL_OVERRIDE = "model_override_value not specified."  # ChatGoogleGenerativeAI takes no model with a call
SKIPPED = {
    "test_audio_inputs": "Model does not support audio inputs.",  # nor do four of the five vendors
    "test_anthropic_inputs": "Model does not explicitly support Anthropic inputs.",  # only ChatAnthropic does
    "test_stream_time": "VCR not set up.",  # compares the times of two runs of a real vendor
    "test_json_mode": "Test requires json mode support.",  # only ChatOpenAI has such a mode
    "test_invoke_with_model_override": MODEL_OVERRIDE,
    "test_ainvoke_with_model_override": MODEL_OVERRIDE,
    "test_stream_with_model_override": MODEL_OVERRIDE,
    "test_astream_with_model_override": MODEL_OVERRIDE,
}
"""Standard tests that are skipped for some class, and the suite's words for why."""


@pytest.mark.skipif(not PYTHON.exists(), reason=f"LangChain's environment is not there: {PYTHON}")
def test_langchains_standard_tests(gateway: Running, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    environment = {
        "PATH": os.environ["PATH"],
        "HEADGATE_URL": gateway.url,
        "HEADGATE_KEY": KEY,
        "HEADGATE_MODEL": ABLE,
    }
    ran = subprocess.run(
        [PYTHON, "-m", "pytest", "-c", SUITE / "pytest.ini", SUITE / "suite.py", f"--junitxml={report}"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    cases = list(ElementTree.parse(report).iter("testcase"))
    skipped = {
        (case.attrib["name"], found.attrib["message"]) for case in cases for found in case.iter("skipped")
    }
    assert skipped == set(SKIPPED.items())
    assert len(cases) >= 7 * 40
