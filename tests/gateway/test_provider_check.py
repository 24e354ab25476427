"""An operator's look at a provider, through the whole gateway."""

from __future__ import annotations

from pathlib import Path

from aigateway.v1.provider_pb2 import Provider
from tests.support.gateway import Gateway
from tests.support.upstream import MODEL, Upstream


async def test_a_check_reads_a_credential_in_a_file_off_the_loop(
    gateway: Gateway, upstream: Upstream, tmp_path: Path
) -> None:
    credential = tmp_path / "credential"
    credential.write_text("key-in-a-file\n")
    provider = Provider(
        provider_type="vllm", base_url=upstream.base_url, credential_ref=f"file:{credential}", disabled=True
    )
    made = await gateway.client.admin.providers.create(provider, provider_id="with-a-file")
    checked = await gateway.client.admin.providers.check(made.name)
    assert checked.healthy, checked.error_message
    assert list(checked.provider_models) == [MODEL]
