"""The schema of the configuration: typed, frozen tables with their defaults and ranges."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from typing_extensions import override

from mlopsd.config.api_keys import parse_line
from mlopsd.probe import Isolation
from mlopsd.units import Bytes, Seconds

PROBE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
TAKEN_NAMES = frozenset({"detailed", "history"})  # paths below /health/ that do not belong to a probe


def _header_name(name: str) -> str:
    if not HEADER_NAME.fullmatch(name):
        raise ValueError("not a valid header name; use letters, digits and hyphens")
    return name


def _probe_name(name: str) -> str:
    if not PROBE_NAME.fullmatch(name):
        raise ValueError(
            "not a valid probe name; use lower-case letters, digits and _, start with a letter, at most 32"
        )
    if "__" in name or name in TAKEN_NAMES:
        raise ValueError("the name is reserved or contains '__'; choose another name for the probe")
    return name


def _split(value: object) -> object:
    """Split text at commas, the form of a list in an environment variable."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("not an absolute path; write it from / on")
    return path


def _key_line(line: SecretStr) -> SecretStr:
    parse_line(line.get_secret_value())
    return line


def _host_name(text: str) -> str:
    """Return a host name as callers send it, without a port."""
    name = text.lower().removesuffix(".")
    if name != "*" and not HOST_NAME.fullmatch(name):
        raise ValueError("not a host name; write it without a port, like gpu1.example")
    return name


def _no_longer_auto(rule: object) -> object:
    """Reject the value ``auto``, which treated a caller's address as an identity."""
    if rule == "auto":
        raise ValueError(
            "is no longer supported, because a caller on this host may be a proxy; "
            'write "key" and set api_keys_file, or write "open"'
        )
    return rule


def _origin(text: str) -> str:
    """Return an origin as browsers send it: in lower case and without a slash at the end."""
    origin = text.lower().removesuffix("/")
    if origin != "*" and not ORIGIN.fullmatch(origin):
        raise ValueError("not an origin; write scheme://host or scheme://host:port")
    return origin


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Port = Annotated[int, Field(ge=0, le=65535)]
ProbeName = Annotated[str, AfterValidator(_probe_name)]


def _web_address(text: str) -> str:
    if not (text.startswith(("https://", "http://")) and text.isprintable() and "#" not in text):
        raise ValueError('is not the address of a page; write it like "https://wiki.example/runbook"')
    return text


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_split)]
Secrets = Annotated[tuple[Annotated[SecretStr, AfterValidator(_key_line)], ...], BeforeValidator(_split)]
Predictions = Annotated[Literal["key", "open"], BeforeValidator(_no_longer_auto)]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(_host_name)], ...], BeforeValidator(_split)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
RunbookUrl = Annotated[str, AfterValidator(_web_address)]


class Table(BaseModel):
    """A table of the configuration. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Api(Table):
    """The address of the HTTP API, its access rules and its limits."""

    host: str = "127.0.0.1"
    port: Port = 9178
    tls_cert: AbsolutePath | None = None
    tls_key: AbsolutePath | None = None
    client_ca: AbsolutePath | None = None
    hosts: Hosts = ()
    cors_origins: Origins = ()
    api_key_header: HeaderName = "X-API-Key"
    api_keys: Secrets = ()
    api_keys_file: AbsolutePath | None = None
    reading: Literal["open", "key"] = "open"
    predictions: Predictions = "key"
    request_timeout: Annotated[Seconds, Field(gt=0)] = 30.0
    drain_delay: Seconds = 0.0
    drain_timeout: Seconds = 10.0
    max_body_size: Annotated[Bytes, Field(ge=1)] = 16_000_000
    max_connections: Annotated[int, Field(ge=8)] = 512
    runbook_url: RunbookUrl | None = None

    @model_validator(mode="after")
    def _certificate_first(self) -> Self:
        if self.tls_cert is None and (self.tls_key or self.client_ca):
            raise ValueError("tls_key and client_ca need tls_cert; set it too, or remove them")
        return self


class MetricsTable(Table):
    """The switch of ``/metrics``, and an optional separate port for it."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port | None = None


class Log(Table):
    """The level and the format of the log."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["json", "text", "auto"] = "auto"


class ProbeTable(BaseModel):
    """The keys of every probe's table. The probe's own model validates any further key.

    A missing key gets its value from the plugin's `mlopsd.probe.Schedule`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    use: str | None = None
    enabled: bool = True
    interval: Annotated[Seconds, Field(ge=0.1)] | None = None
    timeout: Annotated[Seconds, Field(ge=0.1)] | None = None
    isolation: Isolation | None = None
    critical: bool | None = None
    fail_after: Annotated[int, Field(ge=1)] | None = None
    recover_after: Annotated[int, Field(ge=1)] | None = None

    @property
    def own(self) -> dict[str, Any]:
        """Return the keys of the probe's own model, as written."""
        return dict(self.model_extra or {})


class Settings(BaseSettings):
    """All settings. `mlopsd.config.load.load` makes them from their sources."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="MLOPSD_", env_nested_delimiter="__"
    )

    debug: bool = False
    state_dir: AbsolutePath | None = None
    socket: AbsolutePath | None = None
    api: Api = Api()
    metrics: MetricsTable = MetricsTable()
    log: Log = Log()
    probes: dict[ProbeName, ProbeTable] = Field(default_factory=dict)

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the arguments: `load` has already merged file, environment and command line."""
        return (init_settings,)
