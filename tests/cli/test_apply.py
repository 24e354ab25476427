"""A file becomes the state of the gateway, and only what differs is touched."""

import re
from pathlib import Path

import pytest
import yaml

from gateway_server.cli.apply import FROM_THE_FIRST_START
from gateway_server.cli.manifest import ManifestError, parse_manifest
from tests.cli.conftest import Run, runner_of
from tests.support.gateway import running_gateway

FILE = """
tenants:
  - name: blue
    display_name: Blue
    email: blue@example.com
    labels: {team: blue}
api_keys:
  - name: blue/web
    environment: production
    scopes: [SCOPE_INFERENCE]
providers:
  - name: providers/spare
    providerType: demo
    disabled: true
models:
  - name: spare/chat
    provider_model: demo-chat
    capabilities: [MODEL_CAPABILITY_CHAT]
    price: {input_nanos_per_million: 1000, output_nanos_per_million: "2000"}
    quality_score: 40
"""


async def test_a_file_is_shown_applied_and_then_changes_nothing(run: Run) -> None:
    shown = await run("apply", "-f", "-", "--dry-run", stdin=FILE)
    assert shown.code == 0
    assert shown.out.splitlines()[:2] == ["+ providers/spare", '    provider_type: "demo"']
    assert shown.err == "4 to create, 0 to update, 0 to delete, 0 to keep (dry run: nothing was changed)\n"
    assert (await run("tenants", "get", "blue")).code == 4

    applied = await run("apply", "-f", "-", stdin=FILE)
    assert applied.code == 0
    [secret] = re.findall(r"^secret of tenants/blue/apiKeys/web: (sk-gw-\S{43})$", applied.out, re.MULTILINE)
    assert (await run("chat", "-m", "spare/chat", "Hi", env={"AIGW_API_KEY": secret})).code == 4  # disabled

    again = await run("apply", "-f", "-", stdin=FILE)
    assert (again.code, again.out) == (0, "")
    assert again.err == "0 to create, 0 to update, 0 to delete, 4 to keep\n"


async def test_only_fields_that_the_file_names_are_touched(run: Run) -> None:
    await run("apply", "-f", "-", stdin="tenants: [{name: green, display_name: Green, email: g@example.com}]")
    changed = "tenants: [{name: green, display_name: null, labels: {a: b}}]"

    ran = await run("apply", "-f", "-", stdin=changed)

    assert ran.out == '~ tenants/green\n    display_name: "Green" -> null\n    labels: null -> {"a": "b"}\n'
    tenant = yaml.safe_load((await run("tenants", "get", "green")).out)
    assert tenant["email"] == "g@example.com"
    assert "display_name" not in tenant
    assert (await run("apply", "-f", "-", stdin=changed)).out == ""


async def test_a_time_needs_no_quotes(run: Run) -> None:
    text = "tenants: [{name: timed}]\napi_keys: [{name: timed/k, expire_time: 2099-01-02T03:04:05Z}]"

    assert (await run("apply", "-f", "-", stdin=text)).code == 0
    assert (await run("apply", "-f", "-", stdin=text)).out == ""
    key = await run("keys", "get", "timed/k", "--json")
    assert key.json["expireTime"] == "2099-01-02T03:04:05Z"


async def test_what_get_shows_can_be_applied(run: Run, tmp_path: Path) -> None:
    await run("tenants", "create", "shown", "--display-name", "Shown", "--label", "a=b")
    for command in (["tenants", "get", "shown"], ["tenants", "get", "shown", "--json"]):
        shown = yaml.safe_load((await run(*command)).out)
        path = tmp_path / "file.yaml"
        path.write_text(yaml.safe_dump({"tenants": [shown]}))

        ran = await run("apply", "--file", str(path))

        assert (ran.code, ran.out) == (0, "")
        assert "1 to keep" in ran.err


async def test_json_tells_changes_and_secrets(run: Run) -> None:
    text = "tenants: [{name: jay}]\napi_keys: [{name: jay/k}]"

    ran = await run("apply", "-f", "-", "--json", stdin=text)

    assert ran.json["changes"] == [
        {"action": "create", "name": "tenants/jay", "fields": []},
        {"action": "create", "name": "tenants/jay/apiKeys/k", "fields": []},
    ]
    assert re.fullmatch(r"sk-gw-\S{43}", ran.json["secrets"]["tenants/jay/apiKeys/k"])
    assert (await run("apply", "-f", "-", "--json", stdin=text)).json == {"changes": [], "secrets": {}}


async def test_prune_deletes_what_is_not_named_but_never_the_key_in_use(run: Run) -> None:
    await run("tenants", "create", "gone")
    await run("keys", "create", "gone/k")
    kept = "tenants: []\napi_keys: []"

    without = await run("apply", "-f", "-", stdin=kept)
    assert without.out == ""
    shown = await run("apply", "-f", "-", "--prune", "--dry-run", stdin=kept)
    lines = shown.out.splitlines()
    assert lines.index("- tenants/gone/apiKeys/k") < lines.index("- tenants/gone")
    unasked = await run("apply", "-f", "-", "--prune", stdin=kept)
    assert unasked.code == 2
    assert "--yes" in unasked.err
    assert (await run("keys", "get", "gone/k")).code == 0
    pruned = await run("apply", "-f", "-", "--prune", "--yes", stdin=kept)

    assert pruned.code == 0
    names = [one["name"] for one in (await run("tenants", "list", "--json")).json]
    assert names == ["tenants/default"]
    keys = [one["name"] for one in (await run("keys", "list", "--json")).json]
    assert keys == ["tenants/default/apiKeys/admin"]
    # Kinds that the file has no list of are left alone.
    assert (await run("providers", "get", "demo")).code == 0


async def test_a_file_makes_what_others_in_it_need_and_prune_keeps_what_every_gateway_has(
    tmp_path: Path,
) -> None:
    text = """
        tenants: [{name: routed, default_route: routes/own, guardrail_profile: guardrailProfiles/own}]
        routes: [{name: own, strategy: ROUTING_STRATEGY_BALANCED}]
        guardrail_profiles: [{name: own}]
    """
    nothing = "tenants: []\nroutes: []\nguardrail_profiles: []"
    async with running_gateway(tmp_path / "state") as gateway:
        run = runner_of(gateway)
        profiles = (await run("guardrails", "list", "--json")).json
        routes = (await run("routes", "list", "--json")).json
        made = await run("apply", "-f", "-", stdin=text)
        pruned = await run("apply", "-f", "-", "--prune", "--yes", stdin=nothing)
        again = await run("apply", "-f", "-", "--prune", stdin=nothing)

    assert {one["name"] for one in (*profiles, *routes)} == FROM_THE_FIRST_START
    assert (made.code, made.err) == (0, "3 to create, 0 to update, 0 to delete, 0 to keep\n")
    assert (pruned.code, pruned.err) == (0, "0 to create, 0 to update, 3 to delete, 0 to keep\n")
    assert (again.code, again.out) == (0, "")


async def test_a_secret_that_was_made_is_shown_also_when_a_later_step_fails(run: Run) -> None:
    text = "tenants: [{name: half}]\napi_keys: [{name: half/k}, {name: nosuch/k}]"

    ran = await run("apply", "-f", "-", stdin=text)

    assert ran.code == 4
    assert "secret of tenants/half/apiKeys/k: sk-gw-" in ran.out
    assert "error: RESOURCE_NOT_FOUND" in ran.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("just text", "must hold lists named providers, models, routes, guardrail_profiles, tenants"),
        ("tenents: []", "tenents: not one of providers, models"),
        ("tenants: {}", "tenants must be a list"),
        ("tenants: [blue]", r"tenants\[0\] must be a resource with a name"),
        ("tenants: [{display_name: x}]", r"tenants\[0\] must be a resource with a name"),
        ("tenants: [{name: a/b/c}]", r"tenants\[0\]: 'a/b/c' is not TENANT or a full name"),
        ("tenants: [{name: a}, {name: tenants/a}]", r"tenants\[1\]: tenants/a stands twice"),
        ("tenants: [{name: a, nope: 1}]", r"tenants\[0\]\.nope: no such field of Tenant"),
        ("tenants: [{name: a, rate_limits: {nope: 1}}]", r"tenants\[0\]: .*nope"),
        ("tenants: [{name: a, state: SLEEPING}]", r"tenants\[0\]: .*SLEEPING"),
        ("tenants: []\ntenants: []", "a key stands twice.*line 1"),
        ("tenants: [{name: a, labels: {b: 1}}]", r"tenants\[0\]: .*labels"),
        ("api_keys: [{name: a/b, expire_time: soon}]", r"api_keys\[0\]: "),
        ("providers: [{name: a, credential: x}]", r"providers\[0\]\.credential: a secret does not belong"),
    ],
)
async def test_a_file_that_makes_no_sense_is_refused(run: Run, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        parse_manifest(text)
    ran = await run("apply", "-f", "-", stdin=text)
    assert (ran.code, ran.out) == (2, "")


async def test_a_file_that_is_not_there_is_told(run: Run) -> None:
    ran = await run("apply", "-f", "absent.yaml")

    assert ran.code == 2
    assert "absent.yaml" in ran.err
