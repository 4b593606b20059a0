"""The state folder as commit e8f882e wrote it: an upgrade keeps serving while the registry is down."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlopsd_probes.gpu.history import CardHistory, XidEvent
from tests.running import Running, free_port

# What stands here is written out by hand, not by the store of today: that is what is tested.
MODEL = "iris flowers"
LAYOUT = "1\n"
TAKEN_UP = 180.0  # seconds for a version to load, on a busy machine
TRAIN = """
import sys
import mlflow.sklearn
import numpy
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

model = LinearRegression().fit([[1.0], [2.0], [3.0]], [2.0, 4.0, 6.0])
signature = infer_signature(numpy.array([[1.0]]), numpy.array([2.0]))
mlflow.sklearn.save_model(model, sys.argv[1], signature=signature, pip_requirements=["scikit-learn"])
"""
ASK = json.dumps({"inputs": [[4.0], [5.0]]}).encode()
PAST = """{"boot": "a-boot", "driver": "580.65.06 1764500000", "cards": {"GPU-1": {"index": 0, "name": "H200",
"bus_id": "00000000:0F:00.0", "uncorrected": 2, "nvlinks": [0, 1], "energy": 77, "needed_recovery": true,
"is_expected": true, "xids": {"48": {"count": 3, "last": 1764500001.5, "is_open": true}}}}}"""


def lay_out(state: Path, uri: str) -> Path:
    """Write the folder *state* with version 2 in service and version 1 before it."""
    models = state / "probes/model/models" / MODEL
    models.mkdir(parents=True)
    (state / "layout").write_text(LAYOUT, "ascii")
    (state / "lock").write_text("4242\n", "ascii")
    (state / "probes/system").mkdir()
    trained = state.parent / "trained"
    subprocess.run([sys.executable, "-c", TRAIN, str(trained)], check=True, timeout=300)
    names = [add(models, number, uri, trained) for number in ("1", "2")]
    (models / "order.json").write_text(json.dumps({"current": names[1], "previous": names[0]}), "utf-8")
    return models


def add(models: Path, number: str, uri: str, trained: Path) -> str:
    source, run, created = f"models:/m-{number}", f"run{number}", 1764500000000 + int(number)
    text = "\0".join((uri, number, source, run, str(created)))
    name = f"{number}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
    shutil.copytree(trained, models / name)
    files = sorted(path for path in (models / name).rglob("*") if path.is_file())
    manifest = {
        "version": {
            "number": number,
            "candidate": "@champion",
            "registry": uri,
            "source": source,
            "run_id": run,
            "created": created,
            "candidate_rank": 0,
            "registry_rank": 0,
        },
        "files": [entry(path, models / name) for path in files],
        "fetched_at": f"2026-11-2{number}T10:00:00.123456Z",
        "proven": True,
        "notes": {"load_bytes": 200_000_000, "cuda": False},
    }
    (models / f"{name}.json").write_text(json.dumps(manifest), "utf-8")
    return name


def entry(path: Path, folder: Path) -> dict[str, Any]:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"path": str(path.relative_to(folder)), "size": len(content), "sha256": digest}


@pytest.mark.timeout(600)
def test_an_upgrade_with_the_registry_down_keeps_serving_what_served_before(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    state = tmp_path / "state"
    models = lay_out(state, uri)
    before = {path.name: path.is_dir() for path in models.iterdir()}
    text = f"""
[api]
predictions = "open"
[probes.model]
model = "{MODEL}"
registries = [{{ uri = "{uri}" }}]
interval = "1s"
"""
    with Running(tmp_path, text, until="listening") as daemon:
        reading = daemon.until("/health/model", lambda reported: reported["facts"].get("served"), TAKEN_UP)
        assert reading["facts"]["served"]["version"] == "2"
        kind = {"Content-Type": "application/json"}
        answer = daemon.ask("POST", "/invocations", kind, body=ASK)
        assert answer.status == 200, answer.body
        assert answer.json["predictions"] == pytest.approx([8.0, 10.0])
        assert not [line for line in daemon.log if "set aside" in line["event"]]
    assert (state / "layout").read_text("ascii") == LAYOUT
    assert not (state / "set-aside").exists()
    after = {path.name: path.is_dir() for path in models.iterdir() if path.suffix != ".stamps"}
    assert after == before


def test_what_was_remembered_of_gpus_is_read_after_an_upgrade(tmp_path: Path) -> None:
    (tmp_path / "past.json").write_text(PAST, "utf-8")
    history = CardHistory(tmp_path, lambda: "a-boot")
    card = history.cards["GPU-1"]
    assert history._driver == "580.65.06 1764500000"
    assert (card.index, card.name, card.bus_id) == (0, "H200", "00000000:0F:00.0")
    assert (card.uncorrected, card.nvlinks, card.energy) == (2, [0, 1], 77)
    assert (card.needed_recovery, card.is_expected) == (True, True)
    assert history.xids_of("GPU-1") == {48: XidEvent(3, 1764500001.5, is_open=True)}
