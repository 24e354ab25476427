"""The examples of the README run."""

import asyncio
import re
from pathlib import Path

import pytest

from aigateway import types
from tests.sdk.fake_gateway import FakeGateway

README = Path(__file__).resolve().parents[2] / "clients" / "python" / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
async def test_an_example_runs(code: str, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGW_TARGET", gateway.target)
    monkeypatch.setenv("AIGW_API_KEY", "sk-gw-test")
    gateway.answers["ListModels"] = [types.ListModelsResponse(models=[types.Model(name="m")])]
    code = code.replace('"localhost:50051"', repr(gateway.target))

    await asyncio.to_thread(exec, compile(code, str(README), "exec"), {"__name__": "__main__"})

    assert gateway.calls


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 7
