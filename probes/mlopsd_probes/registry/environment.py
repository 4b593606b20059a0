"""The environment of a registry's process, with no credentials of other registries."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from mlopsd_probes.registry.options import InheritedRegistry, RegistryOptions

KEPT = (
    *("PATH", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH"),
    *("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT", "MLFLOW_DFS_TMP"),
    *("MLFLOW_ENABLE_MULTIPART_DOWNLOAD", "MLFLOW_DOWNLOAD_CHUNK_TIMEOUT"),
    *("MLFLOW_PYARROW_EXTRA_CONF", "KRB5_CONFIG", "KRB5CCNAME"),
)
KEPT_PREFIXES = (  # for stores of files and databases
    *("LC_", "AWS_", "GOOGLE_", "AZURE_", "CLOUDSDK_", "BOTO"),
    *("MLFLOW_S3_", "MLFLOW_GCS_", "MLFLOW_MULTIPART_DOWNLOAD_", "MLFLOW_KERBEROS_", "MLFLOW_MYSQL_SSL_"),
    *("MLFLOW_SQLALCHEMYSTORE_",),
)
NOT_BOTH = ("MLFLOW_TRACKING_INSECURE_TLS",)  # MLflow refuses it beside a file of authorities
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
INHERITED = (
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
    *("MLFLOW_REGISTRY_URI", "MLFLOW_WORKSPACE", "HOME"),
)
OF_HOME = {  # files for stores; ~/.mlflow/credentials is left out, MLflow sends it to every registry
    "AWS_CONFIG_FILE": ".aws/config",
    "AWS_SHARED_CREDENTIALS_FILE": ".aws/credentials",
    "AZURE_CONFIG_DIR": ".azure",
    "CLOUDSDK_CONFIG": ".config/gcloud",
    "PYTHONUSERBASE": ".local",
}
SECRET = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def client_environment(
    registry: RegistryOptions, scratch: Path, http_timeout: float, ours: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of *registry*'s process, made from *ours*; *scratch* is its folder."""
    ours = os.environ if ours is None else ours
    excluded = NOT_BOTH if registry.ca_file else ()
    return {
        **{name: value for name, value in ours.items() if is_kept(name) and name not in excluded},
        **_home(registry, scratch, ours),
        **dict(_databricks(registry, ours)),
        **dict(_postgresql(registry, ours)),
        "TMPDIR": str(scratch),
        "MLFLOW_TRACKING_URI": registry.uri,
        "MLFLOW_REGISTRY_URI": registry.uri,
        **({"MLFLOW_WORKSPACE": registry.workspace} if registry.workspace else {}),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, int(http_timeout))),
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
        "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",  # else each thread of a download costs memory for ever
    }


def inherited_credentials(registry: RegistryOptions, ours: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return MLflow's credential variables if they are for *registry*."""
    ours = os.environ if ours is None else ours
    if not isinstance(registry, InheritedRegistry):
        return {}
    return {name: ours[name] for name in INHERITED if name in ours}


def is_kept(name: str) -> bool:
    """Return whether every client gets the variable *name*."""
    return name in KEPT or name.lower() in PROXIES or name.startswith(KEPT_PREFIXES)


def _home(registry: RegistryOptions, scratch: Path, ours: Mapping[str, str]) -> dict[str, str]:
    """Return variables for a home in *scratch*, and for the needed files of the real home."""
    if not (home := ours.get("HOME")):
        return {"HOME": str(scratch)}
    found = {name: f"{home}/{place}" for name, place in OF_HOME.items() if name not in ours}
    # requests would let ~/.netrc override what is configured here
    has_credentials = registry.username or registry.token_file or "@" in urlsplit(registry.uri).netloc
    return {**found, "HOME": str(scratch), "NETRC": os.devnull if has_credentials else f"{home}/.netrc"}


def _databricks(registry: RegistryOptions, ours: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the variables with Databricks' credentials if *registry* is Databricks."""
    if registry.uri.partition(":")[0] not in ("databricks", "databricks-uc"):
        return
    yield from ((name, value) for name, value in ours.items() if name.startswith("DATABRICKS_"))
    if "HOME" in ours and "DATABRICKS_CONFIG_FILE" not in ours:
        yield "DATABRICKS_CONFIG_FILE", f"{ours['HOME']}/.databrickscfg"


def _postgresql(registry: RegistryOptions, ours: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the variables of PostgreSQL's client, password included, if *registry* is such a database."""
    if registry.uri.startswith("postgresql"):
        yield from ((name, value) for name, value in ours.items() if name.startswith("PG"))
