"""Name a Python module that an interpreter lacks, and the package to install."""

import re
import sys

PACKAGES = {  # by module; only certain names
    "MySQLdb": "mysqlclient",
    "OpenSSL": "mlopsd[signing]",
    "alembic": "mlflow",
    "azure": "azure-storage-blob",
    "azure.identity": "azure-identity",
    "azure.storage.blob": "azure-storage-blob",
    "azure.storage.filedatalake": "azure-storage-file-datalake",
    "boto3": "boto3",
    "botocore": "boto3",
    "databricks.sdk": "databricks-sdk",
    "google": "google-cloud-storage",
    "google.cloud": "google-cloud-storage",
    "mlflow": "mlopsd[model]",
    "model_signing": "mlopsd[signing]",
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "pyarrow": "pyarrow",
    "pymssql": "pymssql",
    "pymysql": "PyMySQL",
    "pyodbc": "pyodbc",
    "pysftp": "pysftp",
    "requests_auth_aws_sigv4": "requests-auth-aws-sigv4",
    "requests_kerberos": "requests-kerberos",
    "sqlalchemy": "mlflow",
}
FROM_NAMESPACE = re.compile(r"cannot import name '(\w+)' from '([\w.]+)' \(unknown location\)")


def sentence(error: ImportError) -> str:
    """Return a sentence on the module that *error* lacks, and how to install it in this interpreter."""
    python = sys.executable
    if (name := missing_module(error)) is None:
        return f"{python} cannot import a module: {error}; check what is installed there"
    if (package := _package(name)) is not None:
        return f"{python} has no module {name!r}; install it: {python} -m pip install '{package}'"
    fix = f"install the package that has it: {python} -m pip install PACKAGE"
    return f"{python} has no module {name!r}; {fix}"


def missing_module(error: ImportError) -> str | None:
    """Return the missing module; None if *error* has another cause."""
    if isinstance(error, ModuleNotFoundError):
        return error.name
    if (found := FROM_NAMESPACE.search(str(error))) is not None:  # the namespace exists, the package does not
        return f"{found[2]}.{found[1]}"
    return None


def _package(name: str) -> str | None:
    parts = name.split(".")
    prefixes = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
    return next((PACKAGES[prefix] for prefix in prefixes if prefix in PACKAGES), None)
