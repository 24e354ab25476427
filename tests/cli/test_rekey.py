"""``ai-gateway rekey`` as a process, on a store that a gateway has written."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from aigateway.v1.provider_pb2 import Provider
from tests.cli.test_process import finished
from tests.support.gateway import running_gateway

OLD = base64.b64encode(b"o" * 32).decode()
NEW = base64.b64encode(b"n" * 32).decode()


async def test_credentials_move_to_the_new_key_and_one_that_cannot_is_named(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    env = {"AIGW_STATE_DIR": str(state_dir), "AIGW_METRICS_LISTEN": ""}
    for key, names in ((OLD, ("one", "two")), (NEW, ("new",))):
        async with running_gateway(state_dir, master_key=key) as gateway:
            for name in names:
                provider = Provider(provider_type="openai", credential="sk-canary-of-rekey")
                await gateway.client.admin.providers.create(provider, provider_id=name)

    blind = await finished("rekey", env={**env, "AIGW_MASTER_KEY": NEW})
    assert blind[0] == 1
    assert blind[1] == "0 credentials encrypted anew, 1 under the current key already\n"
    told = blind[2].splitlines()
    assert [line.partition(" is sealed under the master key")[0] for line in told] == [
        "error: the credential of providers/one",
        "error: the credential of providers/two",
    ]

    both = {**env, "AIGW_MASTER_KEY": f"{NEW},{OLD}"}
    assert await finished("rekey", env=both) == (
        0,
        "2 credentials encrypted anew, 1 under the current key already\n",
        "",
    )
    again = await finished("rekey", "--json", env=both)
    assert (again[0], json.loads(again[1]), again[2]) == (0, {"changed": 0, "current": 3, "failed": {}}, "")
    assert NEW not in "".join(map(str, blind + again))
    assert "canary" not in "".join(map(str, blind + again))


async def test_what_keeps_it_from_working_is_told(tmp_path: Path) -> None:
    env = {"AIGW_STATE_DIR": str(tmp_path / "state"), "AIGW_METRICS_LISTEN": ""}
    code, out, err = await finished("rekey", env=env)
    assert (code, out) == (1, "")
    assert "error: there is no database" in err
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ai-gateway.db").touch()
    code, out, err = await finished("rekey", env={**env, "AIGW_MASTER_KEY": "x"})
    assert (code, out, err) == (1, "", "error: a master key must be 32 bytes in base64\n")
