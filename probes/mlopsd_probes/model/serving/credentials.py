"""The files and folders of credentials that no model may read.

They come from the environment variables of clients, and from the usual places.
"""

import os
import re
from collections.abc import Iterator, Mapping

from mlopsd_probes.registry.environment import INHERITED, is_kept

NO_CREDENTIALS = frozenset(  # variables for programs, libraries, public certificates and plain words
    {
        *("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "HOME", "TZ"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"),
        *("MLFLOW_TRACKING_SERVER_CERT_PATH", "AWS_DATA_PATH", "CLOUDSDK_PYTHON", "AZURE_EXTENSION_DIR"),
        *("LANG", "LANGUAGE", "USER", "LOGNAME"),
    }
)
HOLDS_A_PATH = re.compile(
    r"_(FILE|PATH|DIR|DIRECTORY|CONFIG)(_|$)"
)  # a variable of another name may hold the secret itself
PATHS_BY_OTHER_NAMES = ("GOOGLE_APPLICATION_CREDENTIALS", "KRB5CCNAME")
OTHER_VARIABLES = (
    "CREDENTIALS_DIRECTORY",
    "KUBECONFIG",
    "DOCKER_CONFIG",
    "NETRC",
    "PGPASSFILE",
    "KRB5_KTNAME",
)
URIS = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")  # may name a database or a folder on this host
OF_HOME = (
    *(".aws", ".azure", ".config/gcloud", ".mlflow", ".databrickscfg", ".netrc", ".ssh", ".kube", ".docker"),
    *(".boto", ".pgpass", ".git-credentials", ".cache/huggingface/token", ".pypirc", ".my.cnf", ".s3cfg"),
    *(".config/rclone", ".config/gh", ".oci", ".gnupg"),
)
OF_THE_SYSTEM = ("/var/run/secrets", "/run/secrets")  # Kubernetes' and Docker's
LOCAL_URL = re.compile(r"[A-Za-z][\w+.-]*:///+")  # file:///etc/x, sqlite:////var/x


def credential_paths(ours: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return absolute paths of files and folders, which may not exist.

    Args:
        ours: the daemon's environment.
    """
    ours = os.environ if ours is None else ours
    return tuple(dict.fromkeys(_paths(ours)))


def _paths(ours: Mapping[str, str]) -> Iterator[str]:
    for name, value in ours.items():
        if _names_credentials(name):
            yield from absolute_paths(value)
        elif name in URIS and LOCAL_URL.match(value):
            yield LOCAL_URL.sub("/", value)
    if (home := ours.get("HOME", "")).startswith("/"):
        yield from (f"{home}/{place}" for place in OF_HOME)
    yield from OF_THE_SYSTEM


def _names_credentials(name: str) -> bool:
    if name in OTHER_VARIABLES:
        return True
    if name in NO_CREDENTIALS or not (HOLDS_A_PATH.search(name) or name in PATHS_BY_OTHER_NAMES):
        return False
    return is_kept(name) or name in INHERITED or name.startswith("DATABRICKS_")


def absolute_paths(value: str) -> Iterator[str]:
    """Yield each absolute path in *value*, also in a list, behind ``FILE:`` and in a local URL."""
    if value.startswith("/"):
        yield value
    for part in re.split(r"[:;,]", LOCAL_URL.sub("/", value)):
        path = part.strip()
        if path.startswith("/") and not path.startswith("//"):  # else it is the host of a URL
            yield path
