"""``ai-gateway audit verify`` as a process, on a store that a gateway has written."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import delete, update

from gateway_server.storage.engine import open_store
from gateway_server.storage.tables import audit_events
from tests.cli.test_process import finished


async def test_verify_says_where_the_chain_was_tampered_with(tmp_path: Path) -> None:
    env = {"AIGW_STATE_DIR": str(tmp_path / "state"), "AIGW_METRICS_LISTEN": ""}
    absent = await finished("audit", "verify", env=env)
    assert absent[:2] == (1, "")
    assert "error: there is no database" in absent[2]
    await finished("init", env=env)

    code, out, err = await finished("audit", "verify", env=env)
    assert (code, err) == (0, "")
    count = int(out.removesuffix(" events, each sealed by the one before it\n"))

    revision = audit_events.c.revision
    store = open_store(f"sqlite:///{tmp_path / 'state' / 'ai-gateway.db'}")
    for tampering, broken in (
        (delete(audit_events).where(revision == count), count),  # the newest
        (update(audit_events).where(revision == 2).values(resource="tenants/else"), 2),
        (delete(audit_events), 1),
    ):
        async with store.write() as connection:
            await connection.execute(tampering)
        told = f"error: the chain breaks at event {broken}, after {broken - 1} that fit\n"
        assert await finished("audit", "verify", env=env) == (1, "", told)
    await store.close()
