"""Hosts of every kind for a real Prometheus: with models, cards and all, with what they lose, and how."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

from mlopsd_probes.fake_nvml import build
from tests.conftest import STRANGE
from tests.gpu.driving import scenario
from tests.installed import installed
from tests.model.models.saved import rows, troubled
from tests.model.registrar import Registrar
from tests.running import CALM_SYSTEM, GIVE_UP, Running

TAKEN_UP = GIVE_UP  # for two models to serve
HEADERS = {"X-API-Key": "sesame-0123456789", "Content-Type": "application/json"}
GPU = '[probes.gpu]\ninterval = 0.5\ntimeout = 10\nsysfs_path = "/nonexistent"\n'
CARD = ("fan.count 1", "fan.speed 40", "fan.min 30", "fan.max 100")
SICK = """
[probes.system]
interval = 0.5
fail_after = 1
memory_available_unhealthy = 1
memory_available_degraded = 1
memory_available_enough = "1000TB"
[probes.door]
use = "troubled"
trouble = "hangs"
timeout = 0.5
isolation = "thread"
critical = false
"""


def address(daemon: Running) -> str:
    return f"127.0.0.1:{daemon.port}"


def a_model(uri: str, folder: Path) -> Registrar:
    """One registered model with one version, which the alias names."""
    model = Registrar(uri, f"wine {time.time_ns()}")
    model.point(model.register(troubled(folder / "first")))
    return model


def a_host(folder: Path, text: str, environment: dict[str, str] | None = None) -> Running:
    """One that listens; what it looks at shows while others are started."""
    folder.mkdir(exist_ok=True)
    return Running(folder, text, environment=environment, until="listening")


def gpus(folder: Path, driver: dict[str, str], *lines: str) -> dict[str, str]:
    """An environment with two cards, steered by ``host.scenario`` in *folder*."""
    folder.mkdir(exist_ok=True)
    file = folder / "host.scenario"
    file.write_text(scenario(*CARD, *lines))
    return {**build.environment(file, Path(driver["LD_LIBRARY_PATH"]).parent), **driver}


def a_host_with_cards(folder: Path, driver: dict[str, str], *lines: str) -> Running:
    return a_host(folder, GPU, gpus(folder, driver, *lines))


def a_host_that_loses_a_card(folder: Path, driver: dict[str, str]) -> Running:
    """Two seconds after it began card 1 falls off the bus."""
    return a_host_with_cards(folder, driver, "at 2s lost gpu 1")


def a_whole_host(folder: Path, model: Registrar, driver: dict[str, str]) -> Running:
    """A model, two cards, and the host itself, all well."""
    folder.mkdir()
    canary = folder / "canary.json"
    canary.write_bytes(rows(["do", "x"], ["", 1.0], ["", 2.0]))
    text = f"""
[api]
api_keys = ["tests:act:754840467716f32606cd61fa2b90cb2ecfda8ce0b620e6e19d592b615aecba69"]
{GPU}
[probes.model]
model = "{model.name}"
registries = [{{ uri = "{model.uri}" }}]
interval = "1s"
rejected_backoff = "1h"
[probes.model.canary]
input = "{canary}"
{CALM_SYSTEM}interval = 0.5
paths = ["/", "{folder}"]
"""
    return a_host(folder, text, gpus(folder, driver))


def a_sick_host(folder: Path) -> Running:
    """As installed with a probe that hangs for good in its thread."""
    return a_host(folder, SICK, installed(folder, {"troubled": "troubled:Troubled"}, STRANGE))


def break_the_whole_host(daemon: Running, model: Registrar, folder: Path) -> None:
    """A version that will not load is wanted, the one in service fails its callers, a card has an XID."""
    daemon.until("/health/model", lambda reported: served(reported) == "1", TAKEN_UP)
    model.point(model.register(troubled(folder / "second", "need nothing_that_exists")))
    predict_all_the_time(daemon)
    assert predict(daemon, "fail at once") == 500
    build.steer(daemon.folder / "host.scenario", scenario(*CARD, "xid 48 gpu 1"))
    daemon.until("/health/model", lambda reported: reported["facts"].get("rejected"), TAKEN_UP)


def served(reading: dict[str, Any]) -> str | None:
    return (reading["facts"].get("served") or {}).get("version")


def predict(daemon: Running, what: str) -> int:
    body = rows(["do", "x"], [what, 7.0])
    return daemon.ask("POST", "/invocations", HEADERS, body=body).status


def predict_all_the_time(daemon: Running) -> None:
    """Until it ends: a rate needs more than one scrape."""

    def ask() -> None:
        try:
            while daemon.process.poll() is None:
                predict(daemon, "")
                predict(daemon, "word yes")  # a class
                predict(daemon, "fail again")
                pause.wait(0.2)
        except OSError:
            return  # it was ended

    pause = threading.Event()
    threading.Thread(target=ask, daemon=True).start()


def break_the_sick_host(daemon: Running) -> None:
    daemon.config.write_text(daemon.framed("[api]\nprot = 1\n"), "utf-8")
    daemon.process.send_signal(signal.SIGHUP)
