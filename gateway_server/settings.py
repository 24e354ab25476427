"""What one process is told at its start: ``AIGW_*`` variables and one TOML file.

Tenants, keys, providers and models are not settings; they live in the store and change through the API.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

ENV_PREFIX: Final = "AIGW_"
CONFIG_VARIABLE: Final = "AIGW_CONFIG"
DEFAULT_CONFIG_FILE: Final = "ai-gateway.toml"


#: A list: in the environment, with commas in between.
_Words = Annotated[tuple[str, ...], NoDecode]
_Folders = Annotated[tuple[Path, ...], NoDecode]


class SettingsError(Exception):
    """A setting that cannot be used; the message says which and why, in one line each."""


class Settings(BaseSettings):
    """All settings of a process. Names are the TOML keys; in the environment, ``AIGW_`` and upper case."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, validate_default=True
    )

    listen: str = Field("127.0.0.1:50051", description="Address of the gRPC server, host:port.")
    metrics_listen: str = Field(
        "127.0.0.1:9464", description="Address of the Prometheus metrics (HTTP, /metrics). Empty: none."
    )
    state_dir: Path = Field(
        Path("ai-gateway-state"),
        description="Folder of what the process keeps: database, pepper of the keys.",
    )
    database_url: str = Field("", description="SQLAlchemy URL of the store. Empty: SQLite in state_dir.")
    redis_url: SecretStr = Field(
        SecretStr(""),
        description="Where several processes share their rate limits and what they know of targets, for "
        "example redis://localhost:6379. Empty: each process is on its own.",
    )
    admin_key: SecretStr = Field(
        SecretStr(""),
        description="The first admin key, sk-gw-... Empty: made at the first start, shown once.",
    )
    key_pepper: SecretStr = Field(
        SecretStr(""),
        description="Secret under which API keys are hashed. Empty: made and kept in state_dir.",
    )
    master_key: SecretStr = Field(
        SecretStr(""),
        description="Encrypts credentials kept in the store: 32 bytes in base64, former keys after a comma. "
        "Empty: from master_key_file.",
    )
    master_key_file: Path | None = Field(
        None, description="File with the master key. None: made in state_dir when it is first needed."
    )
    credential_env: _Words = Field(
        ("*_API_KEY", "*_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"),
        description="Variables that a provider's credential_ref may name, as globs; never AIGW_*.",
    )
    credential_dirs: _Folders = Field(
        (), description="Folders that a file in a provider's credential_ref must be below, by full path."
    )
    tls_cert_file: Path | None = Field(None, description="PEM file of the server's certificate chain.")
    tls_key_file: Path | None = Field(None, description="PEM file of the server's private key.")
    tls_client_ca_file: Path | None = Field(
        None, description="PEM file of the CA that clients must have (mTLS)."
    )
    default_timeout_seconds: float = Field(
        300, gt=0, description="Deadline of a call whose caller set none, in seconds."
    )
    max_timeout_seconds: float = Field(
        3600, gt=0, description="The longest deadline a caller can have, in seconds."
    )
    max_concurrent_calls: int = Field(
        4096, gt=0, description="Calls under way at the same time; more are refused with OVERLOADED."
    )
    max_request_bytes: int = Field(32 * 2**20, gt=0, description="The largest request accepted, in bytes.")
    stream_flush_ms: float = Field(
        10,
        ge=0,
        description="At most one message of a stream in this time, in ms; the first content never waits.",
    )
    stream_stall_seconds: float = Field(
        30, gt=0, description="A stream whose caller reads nothing for this long is ended, in seconds."
    )
    usage_retention_days: int = Field(
        0, ge=0, description="Calls older than this are deleted; sums by the day stay. 0: all are kept."
    )
    cancel_drain_seconds: float = Field(
        0,
        ge=0,
        description="When a caller leaves a stream, the provider is read for this long on, in seconds, to "
        "learn the usage that some tell only at the end. 0: its connection is closed at once.",
    )
    drain_seconds: float = Field(
        30, ge=0, description="Time that calls under way have to end after SIGTERM, in seconds."
    )
    refresh_seconds: float = Field(
        1, gt=0, description="How often changes made by other processes are looked for, in seconds."
    )
    upstream_connect_seconds: float = Field(5, gt=0, description="Time to connect to a provider, in seconds.")
    upstream_first_byte_seconds: float = Field(
        300, gt=0, description="Time a provider has until its answer begins, in seconds."
    )
    upstream_idle_seconds: float = Field(
        120, gt=0, description="The longest pause within a provider's answer, in seconds."
    )
    upstream_max_response_bytes: int = Field(
        64 * 2**20, gt=0, description="The largest answer of a provider, in bytes, decompressed."
    )
    retry_max_attempts: int = Field(
        4, ge=1, le=10, description="Tries at one target, the first included, unless a route says otherwise."
    )
    retry_initial_backoff_ms: int = Field(
        250,
        gt=0,
        description="The longest wait before a first retry, in ms; it doubles each time.",
    )
    retry_max_backoff_ms: int = Field(8000, gt=0, description="The longest wait before a retry, in ms.")
    target_breaker: bool = Field(
        default=True,
        description="Leave targets alone for a while that fail, refuse the credential or are overrun.",
    )
    upstream_max_connections: int = Field(
        1000, gt=0, description="Connections to one provider at the same time."
    )
    upstream_ca_file: Path | None = Field(
        None, description="PEM file of CAs trusted for providers besides the public ones."
    )
    media_fetch: bool = Field(
        default=False,
        description="Fetch media that a request gives by https address, for providers that take bytes only.",
    )
    media_fetch_max_bytes: int = Field(
        20 * 2**20,
        gt=0,
        description="The most that is fetched for one call, in bytes, all its media together.",
    )
    media_fetch_timeout: float = Field(
        10, gt=0, description="Time to fetch the media of one call, all of them together, in seconds."
    )
    pii_recognizers_file: Path | None = Field(
        None, description="File with further kinds of personal data, as Presidio reads recognizers (YAML)."
    )
    ner_model: str = Field(
        "en_core_web_sm",
        min_length=1,
        description="spaCy model that finds PERSON and LOCATION where a guardrail asks for them: the name of "
        "its package, or its folder with a / in it.",
    )
    ner_processes: int = Field(
        1, ge=1, le=64, description="Processes that hold that model, once a guardrail asks for it."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    log_format: Literal["text", "json"] = Field("text", description="How it is logged.")
    demo: bool = Field(default=True, description="Set up the demo provider at the first start.")
    vllm_base_url: str = Field(
        "", description="Set up this vLLM server at the first start, for example http://localhost:8000."
    )

    @field_validator("listen", "metrics_listen")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if value:
            _, separator, port = value.rpartition(":")
            if not separator or not port.isdigit() or int(port) > 65535:
                raise ValueError("must be host:port")
        return value

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")) and value:
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator("credential_env", "credential_dirs", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(word for part in value.split(",") if (word := part.strip()))

    @field_validator("credential_dirs")
    @classmethod
    def _check_folders(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        if any(not folder.is_absolute() or ".." in folder.parts for folder in value):
            raise ValueError("must be full paths")
        return value

    @model_validator(mode="after")
    def _check_master_key(self) -> "Settings":
        if self.master_key.get_secret_value() and self.master_key_file is not None:
            raise ValueError("give master_key or master_key_file, not both")
        return self

    @property
    def store_url(self) -> str:
        """The URL of the store, with the default filled in."""
        return self.database_url or f"sqlite+aiosqlite:///{self.state_dir / 'ai-gateway.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line before environment before file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=_config_file())

    @classmethod
    def load(cls, overrides: Mapping[str, Any] | None = None) -> "Settings":
        """Reads environment and file; raises SettingsError naming each setting at fault, never its value."""
        _check_names()
        config = _config_file()
        if CONFIG_VARIABLE in os.environ and not config.is_file():
            raise SettingsError(f"{CONFIG_VARIABLE}: there is no file {config}")
        try:
            return cls(**(overrides or {}))
        except ValidationError as error:
            lines = [
                f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}"
                for fault in error.errors(include_input=False, include_url=False)
            ]
            raise SettingsError("\n".join(lines)) from None
        except ValueError as error:  # TOML that cannot be read
            raise SettingsError(f"{config}: {error}") from None


def _config_file() -> Path:
    return Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG_FILE))


#: Variables with the prefix that are read elsewhere: by the client side, and here for the file.
_OTHER_VARIABLES: Final = frozenset(
    {
        CONFIG_VARIABLE,
        "AIGW_TARGET",
        "AIGW_API_KEY",
        "AIGW_CA_FILE",
        "AIGW_INSECURE",
        "AIGW_MODEL",
        "AIGW_SHARED_DIR",
    }
)


def _check_names() -> None:
    """Refuses a misspelt variable, which would otherwise be ignored in silence."""
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | _OTHER_VARIABLES
    unknown = sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name not in known)
    if unknown:
        raise SettingsError("\n".join(f"{name}: no such setting" for name in unknown))
