"""The examples of the README run, each as a program of its own."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from aigateway import types
from tests.sdk.fake_gateway import FakeGateway

README = Path(__file__).resolve().parents[2] / "clients" / "python" / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
async def test_an_example_runs(code: str, gateway: FakeGateway) -> None:
    gateway.answers["ListModels"] = [types.ListModelsResponse(models=[types.Model(name="m")])]
    vector = types.Embedding(float_vector=types.FloatVector(values=[0.5]))
    gateway.answers["CreateEmbeddings"] = [types.CreateEmbeddingsResponse(embeddings=[vector])]
    code = code.replace('"localhost:50051"', repr(gateway.target))
    environment = {**os.environ, "AIGW_TARGET": gateway.target, "AIGW_API_KEY": "sk-gw-test"}

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", code), env=environment, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()

    assert process.returncode == 0, err.decode()
    assert out or "print" not in code
    assert gateway.calls


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 7
