"""The registries to ask, their credentials, and the registered model to ask for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from mlopsd_probes.keys import key

TRACKING_URI = "MLFLOW_TRACKING_URI"
OF_DATABASE = re.compile(  # SQLAlchemy takes a password that has a / or a ?
    r"(?P<scheme>(?:postgres|mysql|mssql)[\w+.]*://)[^:/@]*:(?P<password>[^@]*)@"
)
HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+")


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("not an absolute path; write it from / on")
    return path


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; write a name, or remove the key")
    return text


def _host(text: str) -> str:
    if not HOST.fullmatch(text):
        raise ValueError('not a host; write its name or address alone, such as "files.example"')
    return text.lower().rstrip(".")


Name = Annotated[str, AfterValidator(_not_empty)]
HostName = Annotated[str, AfterValidator(_host)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class OptionTable(BaseModel):
    """A table inside a probe's table."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RegistryOptions(OptionTable):
    """A registry, and credentials that no other registry gets."""

    uri: Name = key(..., "URI", "URI for MLflow: http(s)://…, sqlite:///…, databricks …")
    username: Name | None = key(None, "name", "For basic authentication, with password_file.")
    password_file: AbsolutePath | None = key(
        None, "path", "File whose first line is the password. It is read again for each request."
    )
    token_file: AbsolutePath | None = key(
        None, "path", "File whose first line is a bearer token. It is read again for each request."
    )

    redirect_hosts: tuple[HostName, ...] = key(
        (),
        "names",
        "Other hosts that it may redirect to, such as a store of files. They get no credentials.",
    )
    ca_file: AbsolutePath | None = key(
        None, "path", "Certificates of the authorities (PEM) that sign the server's. Default: the system's."
    )
    client_cert_file: AbsolutePath | None = key(
        None, "path", "Certificate (PEM) that the server asks of its clients. It is read again when renewed."
    )
    client_key_file: AbsolutePath | None = key(
        None, "path", "Key (PEM) of client_cert_file. Default: it is in the same file."
    )
    workspace: Name | None = key(None, "name", "Workspace of the model on a server that has workspaces.")

    @model_validator(mode="after")
    def _tls_needs_https(self) -> "RegistryOptions":
        if self.client_key_file is not None and self.client_cert_file is None:
            raise ValueError("client_key_file needs client_cert_file; write it too")
        for name in ("ca_file", "client_cert_file"):
            if getattr(self, name) is not None and self.uri.partition(":")[0] in ("http", "sqlite"):
                raise ValueError(f"{name} is for https; change the uri, or remove {name}")
        return self

    @model_validator(mode="after")
    def _one_way_to_authenticate(self) -> "RegistryOptions":
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file go together; write both or neither")
        if self.username is not None and self.token_file is not None:
            raise ValueError("either username and password_file, or token_file; remove one of them")
        return self

    @property
    def label(self) -> str:
        """The URI without credentials, to show."""
        return without_credentials(self.uri)


class InheritedRegistry(RegistryOptions):
    """The registry in MLflow's environment variables; only it gets the credentials in them."""


class SignatureOptions(OptionTable):
    """The OpenSSF signature that a version must have."""

    public_key: AbsolutePath | None = key(
        None, "path", "Public key (PEM) of the signer. Only versions that it signed are loaded. Default: any."
    )
    file: Name = key("model.sig", "path", "The signature among the version's files.")


@dataclass(frozen=True, slots=True)
class WantedModel:
    """The registered model that registries are asked for.

    Attributes:
        name: the registered name.
        candidates: aliases, stages, numbers or ``latest``; the first that leads to a version counts.
        registries: the registries to ask, in order.
        timeout: seconds for one answer of one registry.
        fetch_min_rate: bytes per second below which a download is broken off.
        fetch_idle_timeout: longest time in seconds without a byte of the files.
        fetch_parallel: files, or ranges of large ones, that are downloaded at a time.
        require_tags: tags that a version must have, with their values.
        digest_tag: the tag with the digest of a version's files; None to ask for none.
        signature: the signature that a version must have.
    """

    name: str
    candidates: tuple[str, ...]
    registries: tuple[RegistryOptions, ...]
    timeout: float
    fetch_min_rate: int
    fetch_idle_timeout: float
    fetch_parallel: int
    require_tags: Mapping[str, str] = field(default_factory=dict)
    digest_tag: str | None = None
    signature: SignatureOptions = field(default_factory=SignatureOptions)


def without_credentials(uri: str) -> str:
    """Return *uri* without user, password and query."""
    try:
        parts = urlsplit(OF_DATABASE.sub(r"\g<scheme>", uri, count=1))
    except ValueError:
        return "a registry whose URI cannot be read"
    if "@" not in parts.netloc and not parts.query:
        return urlunsplit(parts) if OF_DATABASE.match(uri) else uri
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def passwords_of(uri: str) -> list[str]:
    """Return the password in *uri*, as it is written and as it is meant; empty without one."""
    found = OF_DATABASE.match(uri)
    password = found["password"] if found is not None else urlsplit(uri).password
    return [password, unquote(password)] if password else []
