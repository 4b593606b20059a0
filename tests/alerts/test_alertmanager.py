"""The example for Alertmanager: who is told of what, by Alertmanager's own tool and by a real one."""

import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from mlopsd.probe import Advice
from tests.alerts.rules import FOLDER, Rule, alerts
from tests.running import GIVE_UP, free_port

FILE = FOLDER / "alertmanager.yml"
RECEIVERS = {
    **dict.fromkeys(("reset_gpu", "reboot", "check_hardware", "replace_hardware"), "hardware"),
    "fix_registry": "registry",
    "fix_model": "model-owners",
}  # by advice; the rest goes to operations
OF_MODELS = {"MlopsdModelDrift", "MlopsdModelRejected", "MlopsdModelFallback"}
REPORT_SECONDS = GIVE_UP
HOST = {"job": "mlopsd", "instance": "gpu-01:9178"}


def amtool(*arguments: str) -> str:
    done = subprocess.run(["amtool", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def receiver(alert: str, severity: str, advice: str) -> str:
    labels = [f"alertname={alert}", f"severity={severity}", f"advice={advice}"]
    return amtool("config", "routes", "test", "--config.file", str(FILE), *labels)


@pytest.mark.needs("amtool")
def test_it_is_taken() -> None:
    assert "SUCCESS" in amtool("check-config", str(FILE))


@pytest.mark.needs("amtool")
@pytest.mark.parametrize("advice", list(map(str, Advice)))
def test_a_ticket_goes_to_who_can_act_on_its_advice(advice: str) -> None:
    assert receiver("MlopsdAny", "ticket", advice) == RECEIVERS.get(advice, "operations")
    assert receiver("MlopsdAny", "page", advice) == "on-call"


@pytest.mark.needs("amtool")
@pytest.mark.parametrize("name", sorted(OF_MODELS))
def test_what_became_of_a_version_goes_to_who_trains_it(name: str) -> None:
    assert receiver(name, "ticket", "watch") == "model-owners"
    assert receiver(name, "ticket", "fix_config") == "operations", "this host is at fault"


class Receivers:
    """Takes the messages of an Alertmanager: the names of the alerts in each, by the path it came to."""

    def __init__(self) -> None:
        reported: dict[str, list[set[str]]] = {}
        self.reported = reported

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reported.setdefault(self.path, []).append(
                    {one["labels"]["alertname"] for one in body["alerts"]}
                )
                self.send_response(200)
                self.end_headers()

            @override
            def log_message(self, format: str, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@contextmanager
def alertmanager(folder: Path) -> Iterator[tuple[str, Receivers]]:
    """A real one with the example, but for its URLs and for how long it waits; and what it says."""
    receivers = Receivers()
    thread = threading.Thread(target=receivers.server.serve_forever, args=(0.02,))
    thread.start()
    here = f"http://127.0.0.1:{receivers.server.server_port}"
    text = FILE.read_text("utf-8").replace("group_wait: 30s", "group_wait: 1s")
    text = text.replace("http://on-call.example", f"{here}/on-call").replace("http://tickets.example", here)
    (folder / "alertmanager.yml").write_text(text, "utf-8")
    port = free_port()
    command = [
        shutil.which("prometheus-alertmanager") or "prometheus-alertmanager",
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}", receivers
    finally:
        process.terminate()
        process.wait(GIVE_UP)
        receivers.server.shutdown()
        thread.join()
        receivers.server.server_close()


def tell(uri: str, firing: list[Rule]) -> None:
    """Post *firing* as Prometheus does, again while the Alertmanager is starting."""
    body = json.dumps([{"labels": {"alertname": one.name, **one.labels, **HOST}} for one in firing]).encode()
    deadline = time.monotonic() + REPORT_SECONDS
    while True:
        request = urllib.request.Request(f"{uri}/api/v2/alerts", body, {"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


def until_reported(receivers: Receivers, wanted: dict[str, Any]) -> None:
    deadline = time.monotonic() + REPORT_SECONDS
    while receivers.reported != wanted:
        assert time.monotonic() < deadline, receivers.reported
        time.sleep(0.1)


@pytest.mark.needs("prometheus-alertmanager")
def test_a_host_in_trouble_is_one_page_and_its_causes_go_to_who_can_act(tmp_path: Path) -> None:
    known = alerts()
    names = (
        "MlopsdHostUnhealthy",
        "MlopsdHostDegraded",
        "MlopsdDraining",
        "MlopsdModelDrift",
        "MlopsdProbeHung",
    )
    with alertmanager(tmp_path) as (uri, receivers):
        tell(uri, [known[name] for name in names])
        until_reported(
            receivers,
            {
                "/on-call/": [{"MlopsdHostUnhealthy"}],
                "/operations": [{"MlopsdDraining"}],
                "/hardware": [{"MlopsdProbeHung"}],
                "/model-owners": [{"MlopsdModelDrift"}],
            },
        )


@pytest.mark.needs("prometheus-alertmanager")
def test_a_host_that_is_down_is_reported_once(tmp_path: Path) -> None:
    known = alerts()
    with alertmanager(tmp_path) as (uri, receivers):
        tell(uri, [known[name] for name in ("MlopsdDown", "MlopsdDraining", "MlopsdModelDrift")])
        until_reported(receivers, {"/on-call/": [{"MlopsdDown"}]})
