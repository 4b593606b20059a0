"""A reckless probe costs itself, and neither the daemon nor another probe."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlopsd.exceptions import LONGEST_MESSAGE, LONGEST_TRACEBACK
from tests.installed import installed
from tests.running import GIVE_UP, Running

PROBES = Path(__file__).parent / "probes"
POINTS = {
    "stops_the_loop": "reckless:StopsTheLoop",
    "closes_the_streams": "reckless:ClosesTheStreams",
    "appends": "reckless:Appends",
    "hangs_at_its_end": "reckless:HangsAtItsEnd",
    "shows_objects": "reckless:ShowsObjects",
    "loses_a_thread": "reckless:LosesAThread",
    "loses_a_task": "reckless:LosesATask",
    "raises_megabytes": "reckless:RaisesMegabytes",
    "no_version": "reckless:NoVersion",
    "numbered_version": "reckless:NumberedVersion",
    "wrong_routes": "reckless:WrongRoutes",
    "seats": "mistaken:Seats",
}


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    return installed(tmp_path, POINTS, PROBES)


def tables(*names: str) -> str:
    return "".join(f"[probes.{name}]\n" for name in names)


def checks(daemon: Running, probe: str) -> float:
    """How often *probe* has been checked."""
    text = daemon.get("/metrics").body.decode()
    name = f'mlopsd_probe_checks_total{{probe="{probe}",'
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def wait_for_checks(daemon: Running, probe: str, number: int = 3) -> None:
    """Wait until *probe* was checked *number* times more."""
    wanted = checks(daemon, probe) + number
    deadline = time.monotonic() + GIVE_UP
    while checks(daemon, probe) < wanted:
        assert time.monotonic() < deadline, daemon.log
        time.sleep(0.05)


def test_a_probe_that_stops_the_loop_ends_no_daemon(environment: Mapping[str, str], tmp_path: Path) -> None:
    with Running(tmp_path, tables("stops_the_loop", "seats"), environment=environment) as daemon:
        wait_for_checks(daemon, "stops_the_loop")
        assert daemon.get("/livez").status == 200
        daemon.stop()
        assert daemon.process.returncode == 0
        (line,) = daemon.events("event loop stopped")
        assert line["reason"] == "a probe called stop() of the event loop; remove that call"


def test_a_probe_that_closes_standard_output_takes_it_from_nobody(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    with Running(tmp_path, tables("closes_the_streams"), environment=environment) as daemon:
        daemon.wait_for(lambda record: record.get("line") == "closed 1")


def test_what_an_import_prints_is_a_record_too(environment: Mapping[str, str], tmp_path: Path) -> None:
    with Running(tmp_path, tables("appends"), environment=environment) as daemon:
        printed = daemon.event("line printed")
        assert (printed["line"], printed["logger"]) == ("reckless is imported", "mlopsd.printed")
        assert not daemon.events("no json")


def test_a_probe_that_changes_its_options_is_not_restarted_by_a_reload(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    with Running(tmp_path, tables("appends"), environment=environment) as daemon:
        assert daemon.ask("POST", "/reload", local=True).json["changes"] == []


def test_a_finalizer_that_hangs_holds_up_no_reload(environment: Mapping[str, str], tmp_path: Path) -> None:
    with Running(tmp_path, tables("hangs_at_its_end"), environment=environment) as daemon:
        daemon.config.write_text(daemon.framed(tables("seats")), "utf-8")
        changes = daemon.ask("POST", "/reload", local=True).json["changes"]
        assert changes == ["probe hangs_at_its_end is no longer watched", "probe seats is now watched"]
        assert daemon.get("/livez").status == 200


def test_shown_facts_that_are_no_json_are_the_probes_failure(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    with Running(tmp_path, tables("shows_objects"), environment=environment) as daemon:
        reading = daemon.get("/health/shows_objects").json
        assert reading["summary"].startswith("the reading's facts are not JSON: object in facts.door; use ")
        assert daemon.get("/health/detailed").json["probes"]["shows_objects"]["facts"] == {}


@pytest.mark.parametrize(
    ("probe", "event", "reason"),
    [
        ("loses_a_thread", "thread failed", "Exception in thread"),
        ("loses_a_task", "unhandled exception", "Task exception was never retrieved"),
    ],
)
def test_a_thread_or_task_that_fails_is_one_record_with_its_place(
    probe: str, event: str, reason: str, environment: Mapping[str, str], tmp_path: Path
) -> None:
    with Running(tmp_path, tables(probe), environment=environment) as daemon:
        wait_for_checks(daemon, probe)
        daemon.stop()
        (record,) = daemon.events(event)
        assert record["level"] == "error"
        assert "reckless.py" in record["traceback"]
        assert record["traceback"].endswith("RuntimeError: no door")
        assert not [record for record in daemon.log if reason in record.get("line", "")]
        assert daemon.process.returncode == 0


def test_a_message_of_megabytes_is_shortened_everywhere(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    text = tables("raises_megabytes") + "[probes.apart]\nuse = 'raises_megabytes'\nisolation = 'process'\n"
    with Running(tmp_path, text, environment=environment) as daemon:
        for probe in ("raises_megabytes", "apart"):
            assert len(daemon.get(f"/health/{probe}").json["summary"]) < 2 * LONGEST_MESSAGE
        for record in daemon.events("probe check failed"):
            assert "reckless.py" in record["traceback"]
            assert len(record["traceback"]) < 2 * LONGEST_TRACEBACK


@pytest.mark.parametrize("probe", ["no_version", "numbered_version"])
def test_a_version_that_cannot_be_read_is_none(
    probe: str, environment: Mapping[str, str], tmp_path: Path
) -> None:
    text = f"{tables(probe)}model = 'iris'\n"
    with Running(tmp_path, text, environment=environment) as daemon:
        for path in ("/ping", "/v2/health/ready", "/v2/models/iris/ready", "/ping"):
            assert daemon.get(path).status == 503
        found = [record["probe"] for record in daemon.events("served version unknown")]
        assert found == ([probe] if probe == "no_version" else [])


@pytest.mark.parametrize("path", ["raise", "none", "text", "exit"])
def test_a_handler_that_fails_names_its_probe(
    path: str, environment: Mapping[str, str], tmp_path: Path
) -> None:
    with Running(tmp_path, tables("wrong_routes"), environment=environment) as daemon:
        answer = daemon.get(f"/probes/wrong_routes/{path}")
        assert answer.status == 500
        assert answer.json["detail"].startswith("probe 'wrong_routes' returned no valid response; ")
        assert daemon.get("/livez").status == 200
