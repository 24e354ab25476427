"""What ``serve``, ``init`` and ``rekey`` share: the settings of a process, and the first admin key."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway_server.cli.session import fail

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from gateway_server.settings import Settings

ConfigFile = Annotated[
    Path | None, typer.Option(envvar="AIGW_CONFIG", help="The TOML file with the settings.")
]


def load_settings(config: Path | None, overrides: Mapping[str, Any]) -> "Settings":
    """The settings; ends the process with a message when they cannot be used."""
    from gateway_server.settings import CONFIG_VARIABLE, Settings, SettingsError

    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    try:
        return Settings.load(overrides)
    except SettingsError as error:
        fail(str(error))


def describe_settings() -> str:
    """Every setting: variable, TOML key, default, meaning."""
    from gateway_server.settings import CONFIG_VARIABLE, DEFAULT_CONFIG_FILE, ENV_PREFIX, Settings

    file = f"{DEFAULT_CONFIG_FILE} (another: --config or {CONFIG_VARIABLE})"
    lines = [f"Settings: environment variables, or keys of the TOML file {file}. Variables come first."]
    for name, field in Settings.model_fields.items():
        lines.append(f"  {ENV_PREFIX}{name.upper()}  (TOML: {name}, default: {_default_of(field)})")
        lines.append(f"      {field.description}")
    return "\n".join(lines)


def announce_admin_key(secret: str) -> None:
    """Prints the key itself to standard output and what it is to standard error."""
    print("Admin key, shown only now; keep it in a safe place:", file=sys.stderr, flush=True)
    print(secret, flush=True)


def _default_of(field: "FieldInfo") -> str:
    default = field.get_default()
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if isinstance(default, bool):
        return str(default).lower()
    text = "" if default is None else re.sub(r"\.0$", "", str(default))
    return text or "none"
