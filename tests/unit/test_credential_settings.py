"""Settings that say where credentials may come from, as variables and as TOML."""

from pathlib import Path

import pytest

from gateway_server.errors import GatewayError
from gateway_server.providers.credentials import CredentialRules
from gateway_server.settings import CONFIG_VARIABLE, Settings, SettingsError


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file and no variable of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)


def test_variables_hold_lists_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGW_CREDENTIAL_ENV", "OPENAI_*, TEAM_KEY,")
    monkeypatch.setenv("AIGW_CREDENTIAL_DIRS", "/run/secrets, /etc/gateway")
    settings = Settings.load()
    assert settings.credential_env == ("OPENAI_*", "TEAM_KEY")
    assert settings.credential_dirs == (Path("/run/secrets"), Path("/etc/gateway"))


def test_toml_holds_lists(tmp_path: Path) -> None:
    Path("ai-gateway.toml").write_text('credential_env = ["A"]\ncredential_dirs = ["/x"]\n')
    settings = Settings.load()
    assert (settings.credential_env, settings.credential_dirs) == (("A",), (Path("/x"),))


def test_nothing_may_be_named_when_the_lists_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGW_CREDENTIAL_ENV", "")
    settings = Settings.load()
    rules = CredentialRules(settings.credential_env, settings.credential_dirs)
    for ref in ("env:OPENAI_API_KEY", "file:/run/secrets/key"):
        with pytest.raises(GatewayError, match="allow"):
            rules.check(ref)
    rules.check("")


@pytest.mark.parametrize("folders", ["relative", "/a/../b", "/ok,../no"])
def test_folders_are_full_paths(monkeypatch: pytest.MonkeyPatch, folders: str) -> None:
    monkeypatch.setenv("AIGW_CREDENTIAL_DIRS", folders)
    with pytest.raises(SettingsError, match=r"credential_dirs: .*full paths"):
        Settings.load()


def test_one_place_for_the_master_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGW_MASTER_KEY", "canary-of-a-key")
    monkeypatch.setenv("AIGW_MASTER_KEY_FILE", "/x")
    with pytest.raises(SettingsError, match="give master_key or master_key_file, not both") as caught:
        Settings.load()
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("ref", ["env:OPENAI_API_KEY", "env:HF_TOKEN", "env:AWS_BEARER_TOKEN_BEDROCK"])
def test_the_defaults_know_how_providers_name_their_keys(ref: str) -> None:
    CredentialRules(Settings.load().credential_env, ()).check(ref)


@pytest.mark.parametrize("pattern", ["*", "AIGW_*", "AIGW_MASTER_KEY"])
def test_no_setting_lets_out_the_gateways_own_variables(pattern: str) -> None:
    with pytest.raises(GatewayError, match="does not allow"):
        CredentialRules((pattern,), ()).check("env:AIGW_MASTER_KEY")


@pytest.mark.parametrize("ref", ["vault:x", "env", "OPENAI_API_KEY", ":x", "file", "env:"])
def test_what_is_no_reference_is_refused(ref: str) -> None:
    with pytest.raises(GatewayError) as caught:
        CredentialRules(("*_API_KEY",), (Path("/x"),)).check(ref)
    assert [violation.field for violation in caught.value.violations] == ["provider.credential_ref"]
