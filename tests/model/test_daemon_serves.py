"""A real daemon over a real MLflow server: an alias moves, versions fail, the registry goes, hosts die."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from mlopsd.process import procfs
from tests.model import meddler as meddling
from tests.model.meddler import Meddler
from tests.model.models.saved import rows, troubled
from tests.model.registrar import Registrar
from tests.model.registry_server import Shop
from tests.processes import command
from tests.running import GIVE_UP, Answer, Running

KEYS = '[api]\napi_keys = ["tests:act:754840467716f32606cd61fa2b90cb2ecfda8ce0b620e6e19d592b615aecba69"]\n'
HEADERS = {"X-API-Key": "sesame-0123456789", "Content-Type": "application/json"}
ASK = rows(["do", "x"], ["", 7.0])
TAKEN_UP = 180.0  # seconds for a version to serve, on a busy machine

pytestmark = pytest.mark.timeout(900)  # each loads several models, in processes that import MLflow anew


@pytest.fixture
def model(newest: Shop, request: pytest.FixtureRequest) -> Registrar:
    return Registrar(newest.uri, f"model {request.node.name} {time.time_ns()}")


def table(model: Registrar, uri: str | None = None, more: str = "") -> str:
    canary = json.dumps({"dataframe_split": {"columns": ["do", "x"], "data": [["", 1.0], ["", 2.0]]}})
    return f"""
{KEYS}
[probes.model]
model = "{model.name}"
registries = [{{ uri = "{uri or model.uri}" }}]
interval = "1s"
rejected_backoff = "1h"
{more}
[probes.model.canary]
timeout = "5s"
input = "{{canary}}"
""".replace("{canary}", str(write_canary(canary)))


def write_canary(text: str) -> Path:
    path = Path(os.environ["PYTEST_TMP"]) / "canary.json"
    path.write_text(text, "utf-8")
    return path


@pytest.fixture(autouse=True)
def _tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_TMP", str(tmp_path))


@contextmanager
def serving(folder: Path, text: str, number: str | None = "1") -> Iterator[Running]:
    folder.mkdir(exist_ok=True)
    with Running(folder, text, until="listening") as daemon:
        if number is not None:
            until_serving(daemon, number)
        yield daemon


def until_serving(daemon: Running, number: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.until("/health/model", lambda reading: served(reading) == number, TAKEN_UP)
    return found


def served(reading: dict[str, Any]) -> str | None:
    return (reading["facts"].get("served") or {}).get("version")


def predict(daemon: Running, body: bytes = ASK) -> Answer:
    return daemon.ask("POST", "/invocations", HEADERS, body=body)


def reported(reading: dict[str, Any], name: str) -> dict[str, Any]:
    return next(finding for finding in reading["findings"] if finding["name"] == name)


def test_a_moved_alias_is_taken_up_without_a_failed_request(model: Registrar, tmp_path: Path) -> None:
    model.register(troubled(tmp_path / "first"))
    second = model.register(troubled(tmp_path / "second"))
    model.point("1")
    with serving(tmp_path / "run", table(model)) as daemon:
        until_healthy(daemon)
        codes: list[int] = []
        over = threading.Event()

        def ask_all_the_time() -> None:
            while not over.is_set():
                codes.append(predict(daemon).status)

        asking = [threading.Thread(target=ask_all_the_time) for _ in range(3)]
        for thread in asking:
            thread.start()
        model.point(second)
        until_serving(daemon, second)
        reading = until_healthy(daemon)
        eventually(lambda: len(hosts(daemon)) == 1, "the old host is gone")
        over.set()
        for thread in asking:
            thread.join()
        assert set(codes) == {200}, {code: codes.count(code) for code in set(codes)}
        assert "drift_since" not in reading["facts"]
        assert half_fetched(tmp_path / "run/state") == []
        page = daemon.get("/metrics").body.decode()
        assert f'mlopsd_model_served_version{{probe="model",model="{model.name}"}} 2' in page
        assert 'mlopsd_model_loads_total{probe="model",result="ok"} 2' in page
        assert f'mlopsd_model_predictions_total{{probe="model",result="ok"}} {len(codes)}' in page
        daemon.stop()
        assert daemon.process.returncode == 0


def test_a_table_that_changes_takes_nothing_out_of_service(model: Registrar, tmp_path: Path) -> None:
    model.register(troubled(tmp_path / "first"))
    model.point("1")
    with serving(tmp_path / "run", table(model)) as daemon:
        until_healthy(daemon)
        (before,) = hosts(daemon)
        codes: list[tuple[int, int]] = []
        over = threading.Event()

        def ask_all_the_time() -> None:
            while not over.is_set():
                codes.append((predict(daemon).status, daemon.get("/health/").status))

        asking = threading.Thread(target=ask_all_the_time)
        asking.start()
        changed = table(model) + "\n[probes.model.features]\nx = { max = 100 }\n"
        daemon.config.write_text(daemon.framed(changed), "utf-8")
        answer = daemon.ask("POST", "/reload", local=True)
        assert "probe model is kept, and its options are updated" in answer.body.decode()
        daemon.until("/health/model", lambda _: before not in hosts(daemon), TAKEN_UP)
        until_healthy(daemon)
        over.set()
        asking.join()
        assert set(codes) == {(200, 200)}, set(codes)
        assert predict(daemon, rows(["do", "x"], ["", 101.0])).status == 400
        assert len(hosts(daemon)) == 1


def eventually(comes_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + GIVE_UP
    while not comes_true():
        assert time.monotonic() < deadline, f"not so: {what}"
        time.sleep(0.05)


def until_healthy(daemon: Running) -> dict[str, Any]:
    found: dict[str, Any] = daemon.until(
        "/health/model", lambda reading: reading["status"] == "healthy", TAKEN_UP
    )
    return found


def hosts(daemon: Running) -> list[int]:
    return [pid for pid in procfs.descendants(daemon.pid) if b"mlopsd_host" in command(pid)]


TROUBLES = {
    "need nothing_that_exists": "nothing_that_exists",
    "leave 7": "exit status 7",
    "crash": "SIGSEGV",
    "fill_memory": "memory",
    "hold_the_gil": "45 s",
    "fail no weights": "no weights",
}


def test_versions_that_cannot_be_loaded_are_rejected_and_the_old_one_answers(
    model: Registrar, tmp_path: Path
) -> None:
    model.register(troubled(tmp_path / "good"))
    model.point("1")
    with serving(tmp_path / "run", table(model, more='load_timeout = "45s"')) as daemon:
        until_healthy(daemon)
        before = count(f"/proc/{daemon.pid}/fd"), len(list(procfs.descendants(daemon.pid)))
        for place, (trouble, cause) in enumerate(TROUBLES.items()):
            number = model.register(troubled(tmp_path / f"bad{place}", trouble))
            model.point(number)
            reading = daemon.until("/health/model", rejected(number), TAKEN_UP)
            (rejection,) = reading["facts"]["rejected"]
            assert (rejection["step"], cause in rejection["reason"]) == ("load", True), rejection
            assert served(reading) == "1"
            assert predict(daemon).json == {"predictions": [7.0]}
            assert daemon.get("/health/").status == 200
        model.point("1")
        until_healthy(daemon)
        eventually(
            lambda: len(list(procfs.descendants(daemon.pid))) == before[1], "no process is left behind"
        )
        eventually(lambda: count(f"/proc/{daemon.pid}/fd") <= before[0] + 1, "no descriptor is left open")
        state = tmp_path / "run/state/probes/model"
        eventually(lambda: not half_fetched(state), "nothing half fetched is left")
        eventually(lambda: count(state / "scratch") <= 2, "no folder of a host is left")


def rejected(number: str) -> Callable[[dict[str, Any]], bool]:
    return lambda reading: any(one["version"] == number for one in reading["facts"].get("rejected", ()))


def test_with_the_registry_gone_the_host_serves_what_it_has_and_says_so(
    model: Registrar, tmp_path: Path
) -> None:
    model.register(troubled(tmp_path / "good"))
    model.point("1")
    with Meddler(model.uri) as registry:
        text = table(model, registry.uri)
        with serving(tmp_path / "run", text) as daemon:
            until_healthy(daemon)
            registry.meddle("/api/", meddling.silence)
            reading = daemon.until("/health/model", is_degraded, TAKEN_UP)
            assert reported(reading, "registry")["status"] == "degraded"
            assert predict(daemon).status == 200
            assert daemon.get("/health/").status == 200
            daemon.stop()
        with serving(tmp_path / "run", text) as daemon:
            reading = daemon.until("/health/model", is_degraded, TAKEN_UP)
            assert "no registry has answered since the start" in reported(reading, "cache")["summary"]
            assert predict(daemon).status == 200
            registry.behave()
            until_healthy(daemon)


def is_degraded(reading: dict[str, Any]) -> bool:
    return bool(reading["status"] == "degraded")


def test_a_daemon_that_is_killed_while_it_fetches_leaves_nothing_half_fetched_in_use(
    model: Registrar, tmp_path: Path
) -> None:
    model.register(troubled(tmp_path / "good"))
    model.point("1")
    with Meddler(model.uri) as registry:
        text = table(model, registry.uri)
        registry.meddle("mlflow-artifacts/artifacts/", meddling.silence)
        with serving(tmp_path / "run", text, None) as daemon:
            reading = daemon.until("/health/model", says_fetching, TAKEN_UP)
            assert reading["status"] == "unknown"
            assert predict(daemon).status == 503
            left = list(procfs.descendants(daemon.pid))
            daemon.process.kill()
            daemon.process.wait()
            eventually(lambda: not any(map(runs, left)), "no child outlives the daemon")
        registry.behave()
        with serving(tmp_path / "run", text) as daemon:
            assert predict(daemon).status == 200
            assert half_fetched(tmp_path / "run/state") == []


def is_fetching(reading: dict[str, Any]) -> bool:
    return bool((reading["facts"].get("progress") or {}).get("step") == "fetch")


def says_fetching(reading: dict[str, Any]) -> bool:
    """Return whether a reading has come since the download began; its progress shows before that."""
    return is_fetching(reading) and "fetching version 1" in json.dumps(reading)


def test_a_host_that_dies_or_hangs_is_replaced(model: Registrar, tmp_path: Path) -> None:
    model.register(troubled(tmp_path / "good"))
    model.point("1")
    limits = 'hang_timeout = "5s"'
    more = '[probes.model.prediction]\ntimeout = "5s"'
    with serving(tmp_path / "run", table(model, more=limits) + more) as daemon:
        until_healthy(daemon)
        (pid,) = hosts(daemon)
        assert predict(daemon, rows(["do", "x"], ["crash", 1.0])).status == 500
        deadline = time.monotonic() + TAKEN_UP
        while predict(daemon).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert hosts(daemon) != [pid]
        assert predict(daemon, rows(["do", "x"], ["sleep_with_the_gil 600", 1.0])).status in (500, 504)
        daemon.until("/health/model", lambda reading: restarts(reading) == 2, TAKEN_UP)
        assert predict(daemon).status == 200
        (line,) = [line for line in daemon.events("model host lost") if line["reason"] == "crash"]
        assert "SIGSEGV" in line["how"]
        (line,) = [line for line in daemon.events("model host lost") if line["reason"] == "hang"]
        assert line["how"] == "it has sent no heartbeat for 5 s (hang_timeout)"
        page = daemon.get("/metrics").body.decode()
        for reason, times in (("crash", 1), ("hang", 1), ("stall", 0)):
            assert f'mlopsd_model_host_restarts_total{{probe="model",reason="{reason}"}} {times}' in page


def restarts(reading: dict[str, Any]) -> int:
    return int(reading["facts"].get("host", {}).get("restarts", 0))


def test_while_the_model_hangs_no_balancer_is_told_that_it_serves(model: Registrar, tmp_path: Path) -> None:
    model.register(troubled(tmp_path / "good"))
    model.point("1")
    ready = f"/v2/models/{quote(model.name)}/ready"
    patient = table(model, more='hang_timeout = "1h"').replace('interval = "1s"', 'interval = "1h"')
    with serving(tmp_path / "run", patient) as daemon:
        daemon.until("/health/model", lambda reading: served(reading) == "1", TAKEN_UP)
        assert (daemon.get("/ping").status, daemon.get(ready).status) == (200, 200)
        (host,) = [
            child for child in psutil.Process(daemon.pid).children() if b"mlopsd_host" in command(child.pid)
        ]
        host.suspend()
        while daemon.get("/ping").status == 200:
            time.sleep(0.05)
        assert (daemon.get("/v2/health/ready").status, daemon.get(ready).json["ready"]) == (503, False)
        host.resume()
        while daemon.get("/ping").status == 503:
            time.sleep(0.05)
        assert daemon.get(ready).json == {"name": model.name, "ready": True}


def test_stopping_answers_what_is_in_flight(model: Registrar, tmp_path: Path) -> None:
    model.register(troubled(tmp_path / "good"))
    model.point("1")
    with serving(tmp_path / "run", table(model)) as daemon:
        until_healthy(daemon)
        answers: list[Answer] = []
        slow = rows(["do", "x"], ["write seen", 5.0], ["sleep 5", 5.0])
        asking = threading.Thread(target=lambda: answers.append(predict(daemon, slow)))
        asking.start()
        scratch = tmp_path / "run/state/probes/model/scratch"
        eventually(lambda: any(scratch.glob("host-*/seen")), "it has arrived")
        daemon.stop(signal.SIGTERM)
        asking.join()
        assert [answer.status for answer in answers] == [200]


def test_a_reload_goes_to_the_version_of_the_registry_and_says_how_it_went(
    model: Registrar, tmp_path: Path
) -> None:
    model.register(troubled(tmp_path / "good"))
    second = model.register(troubled(tmp_path / "second"))
    third = model.register(troubled(tmp_path / "third", "need nothing_that_exists"))
    model.point("1")
    text = table(model).replace('interval = "1s"', 'interval = "1h"')
    with serving(tmp_path / "run", text) as daemon:
        settle(daemon, "1")
        model.point(second)
        rehearsed = daemon.ask("POST", "/health/model/reload?dry_run=true", HEADERS)
        assert (rehearsed.status, served(daemon.get("/health/model").json)) == (200, "1")
        assert f"version {second} (@champion)" in rehearsed.json["detail"]
        begun = daemon.ask("POST", "/health/model/reload", HEADERS)
        assert (begun.status, begun.headers["Location"]) == (202, "/health/model")
        again = daemon.ask("POST", "/health/model/reload", HEADERS)
        assert again.status == 409
        settle(daemon, second)
        assert daemon.get("/health/model").json["reload"]["state"] == "done"
        model.point(third)
        assert daemon.ask("POST", "/health/model/reload", HEADERS).status == 202
        reading = daemon.until(
            "/health/model", lambda reported: reported["reload"]["state"] != "running", TAKEN_UP
        )
        assert reading["reload"]["state"] == "refused"
        assert "nothing_that_exists" in reading["reload"]["detail"]
        assert served(reading) == second


def settle(daemon: Running, number: str) -> None:
    """Until version *number* serves, nothing is on its way and no check is due before the next beat."""

    def is_there(reading: dict[str, Any]) -> bool:
        is_reloading = reading.get("reload", {}).get("state") == "running"
        return served(reading) == number and step(reading) is None and not is_reloading

    daemon.until("/health/model", is_there, TAKEN_UP)
    for _ in range(2):  # one may join the check that the probe asked for at last, and one comes after it
        assert daemon.ask("POST", "/health/model/check", HEADERS).status == 200


def runs(pid: int) -> bool:
    found = procfs.child(pid)
    return found is not None and found.state != "Z"


def half_fetched(folder: Path) -> list[str]:
    """Return the files that a fetch has begun below *folder*, which may change meanwhile."""
    return [name for _, *names in os.walk(folder) for name in chain(*names) if name.endswith(".part")]


def count(folder: str | Path) -> int:
    return len(list(Path(folder).iterdir()))


def test_a_daemon_that_is_killed_while_it_swaps_serves_a_whole_version_again(
    model: Registrar, tmp_path: Path
) -> None:
    model.register(troubled(tmp_path / "good"))
    second = model.register(troubled(tmp_path / "second", "sleep 3"))
    model.point("1")
    text = table(model)
    with serving(tmp_path / "run", text) as daemon:
        until_healthy(daemon)
        model.point(second)
        daemon.until("/health/model", lambda reading: step(reading) == "load", TAKEN_UP)
        daemon.process.kill()
    with serving(tmp_path / "run", text, None) as daemon:
        daemon.until("/health/model", lambda reading: served(reading) is not None, TAKEN_UP)
        assert predict(daemon).status == 200
        until_serving(daemon, second)
        scratch = tmp_path / "run/state/probes/model/scratch"
        until_healthy(daemon)
        eventually(lambda: count(scratch) <= 2, "what the killed daemon left is gone")


def step(reading: dict[str, Any]) -> str | None:
    return (reading["facts"].get("progress") or {}).get("step")


@pytest.mark.needs("root", "mount")
def test_a_full_disk_is_a_finding_and_the_old_version_serves(model: Registrar, tmp_path: Path) -> None:
    model.register(troubled(tmp_path / "good"))
    big = troubled(tmp_path / "big")
    (big / "data/weights").write_bytes(os.urandom(9_000_000))
    second = model.register(big)
    model.point("1")
    with small_disk(tmp_path / "run/state") as disk, serving(tmp_path / "run", table(model)) as daemon:
        until_healthy(daemon)
        model.point(second)
        reading = daemon.until("/health/model", lambda reading: "cache" in unwell(reading), TAKEN_UP)
        assert "o space left on device" in reported(reading, "cache")["summary"]
        assert reported(reading, "cache")["advice"] == "free_resources"
        assert (served(reading), predict(daemon).status) == ("1", 200)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        until_serving(daemon, second)
        until_healthy(daemon)


@pytest.mark.needs("root", "mount")
def test_a_disk_that_became_read_only_is_a_finding_and_the_old_version_serves(
    model: Registrar, tmp_path: Path
) -> None:
    model.register(troubled(tmp_path / "good"))
    second = model.register(troubled(tmp_path / "second"))
    model.point("1")
    state = tmp_path / "run/state"
    with small_disk(state / "probes/model") as disk, serving(tmp_path / "run", table(model)) as daemon:
        until_healthy(daemon)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        model.point(second)
        reading = daemon.until("/health/model", lambda reading: "cache" in unwell(reading), TAKEN_UP)
        assert "ead-only file system" in reported(reading, "cache")["summary"]
        assert (served(reading), predict(daemon).status) == ("1", 200)


def unwell(reading: dict[str, Any]) -> set[str]:
    return {finding["name"] for finding in reading["findings"] if finding["status"] != "healthy"}


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own at *folder*, with room for one small model."""
    folder.mkdir(parents=True)
    if (state := folder.parents[1]).name == "state":
        (state / "layout").write_text("1\n", "ascii")  # else what is in it is somebody else's
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_two_models_in_one_daemon_and_nothing_of_mlflow_in_its_process(
    model: Registrar, newest: Shop, tmp_path: Path
) -> None:
    model.register(troubled(tmp_path / "good"))
    model.point("1")
    other = f"""
[probes.iris]
use = "model"
model = "iris"
registries = [{{ uri = "{newest.uri}" }}]
default = true
"""
    with serving(tmp_path / "run", table(model) + other) as daemon:
        daemon.until("/health/iris", lambda reading: served(reading) == "1", TAKEN_UP)
        flower = rows(
            ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"],
            [5.1, 3.5, 1.4, 0.2],
        )
        assert predict(daemon, flower).json == {"predictions": [0]}
        assert daemon.ask("POST", "/invocations/model", HEADERS, body=ASK).json == {"predictions": [7.0]}
        assert daemon.get("/v2/models/iris/ready").json == {"name": "iris", "ready": True}
        assert daemon.get("/ping").status == 200
        loaded = Path(f"/proc/{daemon.pid}/maps").read_text()
        assert "numpy" not in loaded
        assert "pandas" not in loaded
        page = daemon.get("/metrics").body.decode()
        assert 'mlopsd_model_prediction_value_bucket{probe="model"' in page
        assert 'mlopsd_model_prediction_classes_total{probe="iris",class="0"} 1' in page
