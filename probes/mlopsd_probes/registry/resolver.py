"""Answer the daemon's requests in a registry's process; MLflow is imported here."""

import contextlib
import importlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from mlopsd_probes.registry import retries
from mlopsd_probes.registry.download import Download
from mlopsd_probes.registry.errors import classify
from mlopsd_probes.registry.fault import Fault, quote
from mlopsd_probes.registry.fault import first_line as shortened
from mlopsd_probes.registry.logged_metrics import read_metrics
from mlopsd_probes.registry.options import passwords_of
from mlopsd_probes.registry.provenance import Evidence
from mlopsd_probes.registry.redirects import RedirectGuard
from mlopsd_probes.registry.secret_files import ClientCertificate, first_line, require_readable, token
from mlopsd_probes.registry.version import File

READY = "READY"
STAGES = ("production", "staging", "archived", "none")
LATEST = "latest"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # schemes of MLflow, or the first part of one
PAGE = 100
LONGEST_NUMBER = 20  # digits
MOST_OTHERS = 5
SECRETS = (
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AZURE_CLIENT_SECRET", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING"),
)

Answer = dict[str, Any]
Send = Callable[[Mapping[str, Any]], None]


class Resolver:
    """Answers requests with one registry's client.

    *opening* has the keys of a registry's table, with ``uri``; a key that is not written is None. *send*
    sends a part before the answer.
    """

    def __init__(self, opening: Mapping[str, Any], send: Send, guard: RedirectGuard) -> None:
        self._uri: str = opening["uri"]
        self._opening = opening
        self._send = send
        certificate, key = opening["client_cert_file"], opening["client_key_file"]
        self._certificate = ClientCertificate(certificate, key) if certificate else None
        retries.install()
        self._guard = guard
        self._preparing = threading.Lock()
        if self._uri.startswith("sqlite:"):  # import now: it takes a second and cannot hang
            with contextlib.suppress(Exception):  # the first request raises it again
                self._client  # noqa: B018  # reading it imports

    def answer(self, question: Mapping[str, Any]) -> Answer:
        """Answer *question*; an exception becomes an answer with a fault."""
        try:
            with self._preparing:
                self._load_credentials()
                self._client  # noqa: B018  # reading it makes it, once for all requests
            return self._answers[question["do"]](question)
        except Exception as error:  # noqa: BLE001  # MLflow and the clients of stores may raise anything
            ours = [Path.cwd(), *([Path(question["folder"])] if "folder" in question else [])]
            return {"fault": classify(error, self._secrets, ours).as_answer()}

    @property
    def _answers(self) -> Mapping[str, Callable[[Mapping[str, Any]], Answer]]:
        return {
            "resolve": self._resolve,
            "metrics": self._metrics,
            "fetch": self._fetch,
            "attest": self._attest,
            "tag": self._tag,
        }

    @cached_property
    def _client(self) -> MlflowClient:
        if self._uri.startswith("sqlite:"):
            _require_database(self._uri)
        if self._uri.startswith(DATABASES):
            importlib.import_module("sqlalchemy")  # without it MLflow says that it supports no databases
        return MlflowClient(tracking_uri=self._uri, registry_uri=os.environ["MLFLOW_REGISTRY_URI"])

    @property
    def _secrets(self) -> list[str]:
        found = (*passwords_of(self._uri), *(os.environ.get(name) for name in SECRETS))
        return [secret for secret in found if secret]

    def _load_credentials(self) -> None:
        """Read the credential files for each request, as MLflow reads its variables: no restart is needed."""
        opening = self._opening
        if opening["username"] and opening["password_file"]:
            _set("MLFLOW_TRACKING_USERNAME", opening["username"])
            _set("MLFLOW_TRACKING_PASSWORD", first_line(opening["password_file"]))
        if opening["token_file"]:
            _set("MLFLOW_TRACKING_TOKEN", token(opening["token_file"]))
        if opening["ca_file"]:
            _set("MLFLOW_TRACKING_SERVER_CERT_PATH", require_readable(opening["ca_file"]))
        if self._certificate is not None:
            _set("MLFLOW_TRACKING_CLIENT_CERT_PATH", self._certificate.path())

    def _resolve(self, question: Mapping[str, Any]) -> Answer:
        shelf = _Registered(self._client, question["model"])
        complaints: list[list[str]] = []
        for candidate in question["candidates"]:
            found = shelf.find(candidate)
            complaint = None if found is None else _not_yet(candidate, found, question.get("tags", {}))
            if found is not None and complaint is None:
                tagged = _tagged(found, question.get("digest_tag"))
                return {
                    "found": {"candidate": candidate, **_facts(found), **tagged},
                    "complaints": complaints,
                }
            if complaint is not None:
                complaints.append(complaint)
            elif (number := shelf.target(candidate)) is not None:
                complaints.append(_dangling(candidate, number))
        complaints.append(_none_of(question["model"], question["candidates"]))
        return {"found": None, "complaints": complaints}

    def _metrics(self, question: Mapping[str, Any]) -> Answer:
        return {"metrics": read_metrics(self._client, question["run_id"], question["source"])}

    def _attest(self, question: Mapping[str, Any]) -> Answer:
        """Hold files that are on disk already against the evidence.

        Raises:
            Fault: ``altered`` or ``unsigned``: they are not the registered ones.
        """
        files = [File(*one) for one in question["files"]]
        fault = Evidence(**question["evidence"]).fault(Path(question["folder"]), files)
        if fault is not None:
            raise fault
        return {}

    def _tag(self, question: Mapping[str, Any]) -> Answer:
        model, number = question["model"], question["version"]
        self._client.set_model_version_tag(model, number, question["name"], question["value"])
        return {}

    def _fetch(self, question: Mapping[str, Any]) -> Answer:
        model, number = question["model"], question["version"]
        uri = self._client.get_model_version_download_uri(model, number)
        download = Download(
            uri,
            self._uri,
            Path(question["folder"]),
            question.get("parallel", 1),
            cached=[File(*one) for one in question.get("cached", ())],
            others=partial(self._others, model, number),
        )
        download.checked_by(Evidence(**question.get("evidence", {})))
        download.watched_by(self._guard)
        part = {"id": question["id"], "more": True, "store": download.store}
        with retries.of_responses():
            return {"files": download.run(lambda pulse: self._send({**part, "pulse": pulse}))}

    def _others(self, model: str, number: str) -> Iterator[str]:
        """Yield the URIs of some other versions of *model*."""
        for version in self._client.search_model_versions(_filter(model), max_results=MOST_OTHERS):
            if str(version.version) != number:
                yield self._client.get_model_version_download_uri(model, str(version.version))


class _Registered:
    """A registered model, read with one call, and further calls only for missing details."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        self._client = client
        self._name = name
        self._model: RegisteredModel = client.get_registered_model(name)
        if self._model.name != name:
            raise Fault("bad_response", f"it answers with a model {self._model.name!r} instead of {name!r}")
        self._newest: list[ModelVersion] = list(self._model.latest_versions or [])

    def find(self, candidate: str) -> ModelVersion | None:
        """Return the version that *candidate* leads to, or None."""
        if (number := self.target(candidate)) is not None:
            return self._version(number)
        if candidate.isdecimal():
            return self._version(str(int(candidate)))
        if candidate.lower() == LATEST:
            return self._latest()
        staged = (one for one in self._newest if (one.current_stage or "None").lower() == candidate.lower())
        return next(staged, None)

    def target(self, candidate: str) -> str | None:
        """Return the number that the alias *candidate* points to; the version may be deleted."""
        number = self._model.aliases.get(candidate[1:]) if candidate.startswith("@") else None
        return None if number is None else str(number)

    def _version(self, number: str) -> ModelVersion | None:
        for version in self._newest:
            if str(version.version) == number:
                return version
        try:
            return self._client.get_model_version(self._name, number)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _latest(self) -> ModelVersion | None:
        """Return the newest ready version; without one the newest, to report it."""
        newest = max(self._newest, key=_age, default=None)
        if newest is not None and newest.status == READY:
            return newest
        return next((one for one in self._all() if one.status == READY), newest)

    def _all(self) -> Iterator[ModelVersion]:
        token = None
        while True:
            page = self._client.search_model_versions(
                _filter(self._name),
                max_results=PAGE,
                order_by=["version_number DESC"],
                page_token=token,
            )
            yield from page
            if not (token := page.token):
                return


def _set(name: str, value: str) -> None:
    """Set the variable *name* unless it has the *value*: C code of another thread may be reading it."""
    if os.environ.get(name) != value:
        os.environ[name] = value


def _filter(model: str) -> str:
    quote = '"' if "'" in model else "'"
    return f"name={quote}{model}{quote}"


def _age(version: ModelVersion) -> int:
    return int(version.version)


def _facts(version: ModelVersion) -> Answer:
    """Return *version* as the daemon takes it.

    Raises:
        Fault: its number is none.
    """
    number = str(version.version)
    if not (number.isascii() and number.isdecimal() and len(number) <= LONGEST_NUMBER):
        text = f"it names a version {quote(number) or 'without a name'}, and not a number"
        raise Fault("bad_response", f"{text}; check which server answers there")
    return {
        "number": number,
        "source": str(version.source or ""),
        "run_id": version.run_id or None,
        "created": int(version.creation_timestamp or 0),
    }


def _tagged(version: ModelVersion, tag: str | None) -> Answer:
    return {} if tag is None else {"tagged_digest": version.tags.get(tag, "")}


def _not_yet(candidate: str, version: ModelVersion, tags: Mapping[str, str]) -> list[str] | None:
    """Return a complaint if *version* may not be rolled out now, else None."""
    leads = f"{candidate} leads to version {version.version}"
    if version.status != READY:
        text = f"{leads}, which is {version.status}, not {READY}"
        return ["not_ready", f"{text}; register it again if it stays so"]
    for name, wanted in tags.items():
        if (value := version.tags.get(name)) != wanted:
            has = "has no tag" if value is None else f"has {shortened(value)!r} as its tag"
            text = f"{leads}, which {has} {name}, not {wanted!r}"
            return ["not_approved", f"{text}; set the tag in the registry if the version is approved"]
    return None


def _dangling(candidate: str, number: str) -> list[str]:
    text = f"{candidate} points to version {number}, which does not exist"
    return ["dangling", f"{text}; set the alias to another version, or delete it"]


def _none_of(model: str, candidates: Sequence[str]) -> list[str]:
    fix = "give a version one of these names, or change candidates"
    return ["absent", f"no version of {model!r} is {', '.join(candidates)}; {fix}"]


def _require_database(uri: str) -> None:
    """Reject a missing database file, which SQLite would create.

    Raises:
        Fault: the file does not exist.
    """
    path = urlsplit(uri).path.removeprefix("/")
    if path and not Path(path).is_file():
        raise Fault("unreachable", f"there is no file {path}; check the uri")
