"""Registers model folders and moves aliases over MLflow's REST interface, with the standard library alone."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


class Registrar:
    """One registered model on the server at *uri*; *name* must be new there."""

    def __init__(self, uri: str, name: str) -> None:
        self.uri = uri
        self.name = name
        self._ask("POST", "registered-models/create", {"name": name})

    def register(self, folder: Path) -> str:
        """The number of the version that is *folder*, logged by a run of its own."""
        run = self._ask("POST", "runs/create", {"experiment_id": "0"})["run"]["info"]
        scheme, _, where = str(run["artifact_uri"]).partition(":/")
        for file in folder.rglob("*"):
            if file.is_file():
                path = f"{ARTIFACTS}/{where}/model/{quote(str(file.relative_to(folder)))}"
                self._send("PUT", path, file.read_bytes())
        source = {"source": f"{scheme}:/{where}/model", "run_id": run["run_id"]}
        made = self._ask("POST", "model-versions/create", {"name": self.name, **source})
        return str(made["model_version"]["version"])

    def point(self, number: str, alias: str = "champion") -> None:
        """*alias* names version *number* from now on."""
        self._ask("POST", "registered-models/alias", {"name": self.name, "alias": alias, "version": number})

    def tag(self, number: str, key: str, value: str) -> None:
        """Version *number* has this tag from now on."""
        self._ask(
            "POST",
            "model-versions/set-tag",
            {"name": self.name, "version": number, "key": key, "value": value},
        )

    def version(self, number: str) -> dict[str, Any]:
        """Version *number* as the registry has it."""
        path = f"{API}/model-versions/get?name={quote(self.name)}&version={number}"
        found: dict[str, Any] = json.loads(self._send("GET", path, None))["model_version"]
        return found

    def _ask(self, method: str, path: str, question: dict[str, Any]) -> Any:
        return json.loads(self._send(method, f"{API}/{path}", json.dumps(question).encode()))

    def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        request = urllib.request.Request(
            self.uri + path, body, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
