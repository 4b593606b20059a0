"""Which paths of credentials the variables of the daemon name."""

import pytest

from mlopsd_probes.model.serving.credentials import OF_HOME, OF_THE_SYSTEM, absolute_paths, credential_paths


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("/creds/gcp.json", ["/creds/gcp.json"]),
        ("/my creds/a,b:c.json", ["/my creds/a,b:c.json", "/my creds/a"]),
        ("FILE:/tmp/krb5cc_1000", ["/tmp/krb5cc_1000"]),
        ("DIR:/run/user/0/krb5cc", ["/run/user/0/krb5cc"]),
        ("/a/config:/b/config", ["/a/config:/b/config", "/a/config", "/b/config"]),
        ("file:///srv/mlruns", ["/srv/mlruns"]),
        ("sqlite:////srv/mlflow.db", ["/srv/mlflow.db"]),
        ("https://usr/lib", []),
        ("http://user:word@proxy:3128/", []),
        ("arn:aws:iam::1:role/x", []),
        ("KEYRING:persistent:0", []),
        ("relative/creds", []),
        ("", []),
    ],
)
def test_every_absolute_path_in_a_value_is_found(value: str, paths: list[str]) -> None:
    assert list(dict.fromkeys(absolute_paths(value))) == paths


def test_what_clients_get_and_what_systemd_hands_over_is_hidden_and_no_program_or_authority() -> None:
    named = {
        "GOOGLE_APPLICATION_CREDENTIALS": "/creds/1",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/creds/2",
        "MLFLOW_TRACKING_CLIENT_CERT_PATH": "/creds/3",
        "DATABRICKS_CONFIG_FILE": "/creds/4",
        "KRB5CCNAME": "FILE:/creds/5",
        "AZURE_CLIENT_CERTIFICATE_PATH": "/creds/6",
        "CREDENTIALS_DIRECTORY": "/run/credentials/mlopsd.service",
        "KUBECONFIG": "/creds/7",
    }
    besides = {
        "PATH": "/usr/bin:/bin",
        "LD_LIBRARY_PATH": "/usr/local/cuda/lib64",
        "PYTHONPATH": "/srv/code",
        "SSL_CERT_FILE": "/etc/ssl/cert.pem",
        "AWS_CA_BUNDLE": "/etc/ssl/aws.pem",
        "LANG": "/not/a/path",
        "LC_ALL": "/not/a/path",
        "TZ": ":/etc/localtime",
        "CUDA_HOME": "/usr/local/cuda",
    }
    found = credential_paths({**named, **besides, "HOME": "/home/me"})
    expected = {value.removeprefix("FILE:") for value in named.values()}
    assert set(found) == expected | {f"/home/me/{place}" for place in OF_HOME} | set(OF_THE_SYSTEM)


def test_without_a_home_there_is_none_to_hide() -> None:
    assert credential_paths({}) == OF_THE_SYSTEM


def test_the_value_of_a_secret_is_never_taken_for_a_path() -> None:
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AWS_SESSION_TOKEN": "/token",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/0a1b",
        "AZURE_STORAGE_CONNECTION_STRING": "AccountKey=x;/y",
        "AZURE_CLIENT_SECRET": "/secret",
        "MLFLOW_TRACKING_PASSWORD": "a:/secretpart",
        "MLFLOW_TRACKING_TOKEN": "/token",
        "MLFLOW_TRACKING_URI": "https://me:/word@registry.example/mlflow",
        "DATABRICKS_TOKEN": "/token",
        "https_proxy": "http://me:/word@proxy:3128",
    }
    assert credential_paths(secrets) == OF_THE_SYSTEM


def test_a_registry_on_this_disk_is_hidden() -> None:
    assert "/srv/mlflow.db" in credential_paths({"MLFLOW_TRACKING_URI": "sqlite:////srv/mlflow.db"})
