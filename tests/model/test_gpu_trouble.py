"""A real model's process on a pretended GPU: what the GPU's trouble says of the model."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from mlopsd_probes.fake_nvml import build
from tests.gpu.driving import library, scenario
from tests.model.models.saved import rows, troubled
from tests.model.registrar import Registrar
from tests.model.registry_server import Shop
from tests.running import Running

pytestmark = pytest.mark.timeout(900)  # a model is loaded, in a process that imports MLflow
TAKEN_UP = 180.0  # seconds, on a busy machine


def test_a_gpu_that_falls_off_the_bus_names_the_model_whose_process_was_on_it(
    newest: Shop, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = tmp_path / "host.scenario"
    host.write_text(scenario())
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library(tmp_path_factory)))
    monkeypatch.setenv("FAKE_NVML_SCENARIO", str(host))
    model = Registrar(newest.uri, f"churn {time.time_ns()}")
    model.point(model.register(troubled(tmp_path / "model")))
    canary = tmp_path / "canary.json"
    canary.write_bytes(rows(["do", "x"], ["", 7.0]))
    configuration = f"""
[probes.gpu]
interval = 0.5
timeout = 5
sysfs_path = "/nonexistent"
[probes.model]
model = "{model.name}"
registries = [{{ uri = "{model.uri}" }}]
interval = "1s"
canary = {{ input = {json.dumps(str(canary))} }}
"""
    with Running(tmp_path, configuration, until="listening") as daemon:
        reading = daemon.until("/health/model", lambda reported: reported["status"] == "healthy", TAKEN_UP)
        tenant = f"gpu 1 process compute {reading['facts']['host']['pid']} 1GiB"
        build.steer(host, scenario(tenant))
        reported = daemon.until("/health/gpu", has_models, TAKEN_UP)
        assert reported["facts"]["gpus"][1]["models"] == [f"models:/{model.name}/1"]
        build.steer(host, scenario(tenant, "lost gpu 1"))
        reported = daemon.until("/health/gpu", lambda reported: reported["status"] == "unhealthy", TAKEN_UP)
        assert f"; model on it: {model.name} version 1" in reported["summary"]
        assert daemon.get("/health/").json["advice"] == "reboot"


def has_models(reported: dict[str, Any]) -> bool:
    return any("models" in gpu for gpu in reported["facts"].get("gpus", ()))
