"""``mlopsd doctor``: each thing that can be wrong with the setup, beside a real daemon and without one."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlopsd.probe import Diagnosis, Setup
from mlopsd_probes.gpu import diagnosis as of_gpus
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.system import diagnosis as of_disks
from mlopsd_probes.system.options import SystemOptions
from tests.certificates import Authority, Pair
from tests.cli.command import mlopsd
from tests.keys import line_of
from tests.registry.moto_store import registry
from tests.running import CALM_SYSTEM, Running


def examined(config: Path, more: Mapping[str, str] | None = None) -> tuple[int, list[dict[str, Any]]]:
    done = mlopsd("doctor", "--json", env={"MLOPSD_CONFIG": str(config), **(more or {})})
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def lines(found: list[dict[str, Any]], status: str) -> list[str]:
    return [one["summary"] for one in found if one["status"] == status]


def test_a_sound_setup_has_no_problem_and_says_what_was_looked_at(tmp_path: Path) -> None:
    state = tmp_path / "state"
    text = CALM_SYSTEM.replace("[probes.system]", f'[probes.system]\npaths = ["{state}"]')
    state.mkdir()
    with Running(tmp_path, text) as daemon:
        code, found = examined(daemon.config)
        shown = mlopsd("doctor", env={"MLOPSD_CONFIG": str(daemon.config)})
    assert lines(found, "problem") == []
    assert code == 0
    told = "\n".join(lines(found, "ok"))
    for part in (
        f"the configuration is valid: {daemon.config}",
        "runs, as installed",
        f"{daemon.config} has not changed since the daemon read it",
        f"metrics can be scraped at http://127.0.0.1:{daemon.port}/metrics, by programs of this host only",
        f"this user may act over {daemon.socket}",
        f"the disk of the state ({state}) is watched by the path {state}",
    ):
        assert part in told
    assert shown.returncode == 0
    assert "ok           system   the disk of the state" in shown.stdout


def test_a_file_that_was_changed_and_not_reloaded_is_a_problem(tmp_path: Path) -> None:
    with Running(tmp_path, CALM_SYSTEM) as daemon:
        long_ago = daemon.config.stat().st_mtime - 3600
        daemon.config.write_text(daemon.config.read_text() + "\n")
        os.utime(daemon.config, (long_ago, long_ago))  # as a copy that keeps the times
        code, found = examined(daemon.config)
    assert code == 1
    (problem,) = (one for one in found if "was changed" in one["summary"])
    assert (problem["status"], problem["fix"]) == ("problem", "mlopsd reload")


def secured(tmp_path: Path, issued: Pair, more: str = "") -> tuple[list[dict[str, Any]], int]:
    """The lines of the doctor beside a daemon with TLS, and the port."""
    text = f'[api]\ntls_cert = "{issued.cert}"\ntls_key = "{issued.key}"\n{more}\n{CALM_SYSTEM}'
    with Running(tmp_path, text) as daemon:
        return examined(daemon.config)[1], daemon.port


def test_metrics_over_tls_are_asked_for_as_the_daemon_serves_them(tmp_path: Path) -> None:
    found, port = secured(tmp_path, Authority(tmp_path).issue("host"))
    assert lines(found, "problem") == []
    assert (
        f"metrics can be scraped at https://127.0.0.1:{port}/metrics, by programs of this host only"
        in lines(found, "ok")
    )


def test_a_certificate_that_expires_soon_is_a_problem(tmp_path: Path) -> None:
    found, port = secured(tmp_path, Authority(tmp_path).issue("host", days=3))
    (problem,) = lines(found, "problem")
    assert problem.startswith(f"the certificate of https://127.0.0.1:{port} expires at 20")


def test_metrics_for_those_who_have_a_key_or_a_certificate_are_no_problem(tmp_path: Path) -> None:
    authority, keys = Authority(tmp_path), tmp_path / "keys"
    keys.write_text(line_of(name="prometheus", role="read"))
    found, _ = secured(tmp_path, authority.issue("host"), f'reading = "key"\napi_keys_file = "{keys}"')
    assert any("with a key, by programs" in one for one in lines(found, "ok"))
    (tmp_path / "second").mkdir()
    found, _ = secured(tmp_path / "second", authority.issue("host"), f'client_ca = "{authority.file}"')
    assert lines(found, "problem") == []
    assert any(
        "it refuses TLS without a certificate of the client" in one for one in lines(found, "not_checked")
    )


def test_without_a_daemon_the_rest_is_examined(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n[api]\nport = 1\n{CALM_SYSTEM}')
    code, found = examined(config)
    assert code == 1
    assert any(one.startswith("no daemon answers: ") for one in lines(found, "problem"))
    assert any(f"the disk of the state ({tmp_path})" in one["summary"] for one in found)


def test_a_configuration_with_mistakes_is_a_problem_with_its_fix(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[probes.system]\nstuck_aftr = 1\n")
    code, found = examined(config)
    assert code == 1
    (problem,) = (one for one in found if "stuck_aftr" in one["summary"])
    assert problem["fix"] == "did you mean 'stuck_after'?"
    assert "the probes: this command cannot use the configuration" in lines(found, "not_checked")


def test_a_registry_that_does_not_answer_is_a_problem(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'state_dir = "{tmp_path}"\n[api]\nport = 1\n[probes.wine]\nuse = "model"\nmodel = "wine"\n'
        'registries = [{ uri = "http://127.0.0.1:9" }]\n'
    )
    _, found = examined(config)
    (problem,) = (one for one in found if one["status"] == "problem" and one["subject"] == "model")
    assert problem["summary"].startswith("wine: the registry http://127.0.0.1:9 gives no version: ")
    assert problem["fix"]


def test_a_registry_that_answers_names_its_version(tmp_path: Path) -> None:
    uri = registry(tmp_path, str(tmp_path))
    config = tmp_path / "config.toml"
    config.write_text(
        f'state_dir = "{tmp_path}"\n[api]\nport = 1\n[probes.wine]\nuse = "model"\nmodel = "wine"\n'
        f'registries = [{{ uri = "{uri}" }}]\ncandidates = ["latest"]\n'
    )
    _, found = examined(config)
    assert any(one.endswith("answers: version 1 is latest") for one in lines(found, "ok")), found


CARD = "0000:3b:00.0"


@pytest.fixture
def bus(tmp_path: Path) -> Path:
    """A sysfs with one NVIDIA GPU whose driver is bound."""
    card = tmp_path / "host/sys/bus/pci/devices" / CARD
    driver = tmp_path / "host/sys/bus/pci/drivers/nvidia"
    for folder in (card, driver):
        folder.mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    (card / "class").write_text("0x030200\n")
    (card / "driver").symlink_to(driver)
    return tmp_path / "host/sys"


def diagnosed(
    bus: Path, table: Mapping[str, Any] | None, facts: Mapping[str, Any] | None = None
) -> Diagnosis:
    tables = {} if table is None else {"cards": GpuOptions(sysfs_path=str(bus), **table)}
    (found,) = of_gpus.diagnose(Setup(tables, {}, facts, bus), bus)
    return found


def test_a_card_is_watched_if_a_reading_has_it(bus: Path) -> None:
    seen = {"cards": {"gpus": [{"bus_id": CARD}]}}
    assert diagnosed(bus, {}, seen) == Diagnosis(
        "ok", f"the NVIDIA GPU at {CARD} is watched by the probe cards"
    )
    unseen = diagnosed(bus, {}, {"cards": {"gpus": []}})
    assert (unseen.status, unseen.fix) == ("problem", "dmesg | grep -e NVRM -e 3b:00.0")


def test_a_card_that_no_table_watches_is_a_problem_with_the_line_to_add(bus: Path) -> None:
    found = diagnosed(bus, None)
    assert (found.status, found.summary) == ("problem", f"the NVIDIA GPU at {CARD} is watched by no probe")
    assert found.fix.endswith("[probes.gpu]")


@pytest.mark.parametrize(
    ("table", "facts", "status"),
    [
        ({}, None, "not_checked"),
        ({"ignored_cards": (CARD,)}, None, "ok"),
        ({"ignored_cards": ("GPU-x",)}, {"cards": {"gpus": []}}, "not_checked"),
        ({}, {"cards": {}}, "not_checked"),
    ],
)
def test_what_cannot_be_known_about_a_card_is_no_problem(
    bus: Path, table: dict[str, Any], facts: dict[str, Any] | None, status: str
) -> None:
    assert diagnosed(bus, table, facts).status == status


def test_in_a_container_a_card_of_the_host_may_be_somebody_elses(bus: Path) -> None:
    (bus.parent / ".dockerenv").touch()
    assert diagnosed(bus, None).status == "not_checked"


def test_a_disk_that_no_path_is_on_is_a_problem_with_the_line_to_write(tmp_path: Path) -> None:
    tables = {"box": SystemOptions(paths=("/proc",))}
    (found,) = of_disks.diagnose(Setup(tables, {"the state": tmp_path}, None, tmp_path))
    assert found.status == "problem"
    assert found.fix.endswith(f'paths = ["/proc", "{tmp_path}"]')
    tables = {"box": SystemOptions(paths=(str(tmp_path.parent),))}
    (found,) = of_disks.diagnose(Setup(tables, {"the state": tmp_path}, None, tmp_path))
    assert found.status == "ok"
    (found,) = of_disks.diagnose(Setup({}, {"the state": tmp_path}, None, tmp_path))
    assert found.fix.endswith("[probes.system]")


FAILS = "its own diagnosis fails"
STRANGER = """
import time
from mlopsd.probe import Diagnosis, Finding, Probe, Reading, Status

class Door(Probe):
    @classmethod
    def diagnose(cls, setup):
        yield Diagnosis("ok", f"tables: {sorted(setup.tables)}")
        %s

    def check(self):
        return Reading([Finding("door", Status.HEALTHY, "shut")])
"""


@pytest.mark.parametrize(
    ("rest", "status", "summary"),
    [
        ('yield Diagnosis("problem", "the door has no key", "buy a key")', "problem", "the door has no key"),
        ('raise OSError("no door")', "not_checked", "its own diagnosis fails: OSError: no door"),
        ('yield "open"', "not_checked", "its own diagnosis fails: TypeError: 'open' is no Diagnosis"),
        (
            'yield Diagnosis("problem", "no fix")',
            "not_checked",
            f"{FAILS}: ValueError: a problem, and only a problem, has a fix: 'no fix'; correct it",
        ),
    ],
)
def test_a_package_of_probes_has_diagnoses_of_its_own(
    tmp_path: Path, rest: str, status: str, summary: str
) -> None:
    site = tmp_path / "site"
    about = site / "door-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "door.py").write_text(STRANGER % rest)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: door\nVersion: 1.0\n", "ascii")
    (about / "entry_points.txt").write_text("[mlopsd.probes]\ndoor = door:Door\n", "ascii")
    config = tmp_path / "config.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n[api]\nport = 1\n[probes.front]\nuse = "door"\n')
    _, found = examined(config, {"PYTHONPATH": str(site)})
    assert (status, summary) in [(one["status"], one["summary"]) for one in found if one["subject"] == "door"]


@pytest.mark.parametrize("words", [("odd", "x", ""), ("ok", "", ""), ("problem", "x", ""), ("ok", "x", "y")])
def test_a_diagnosis_that_says_nothing_useful_is_refused(words: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match=r"diagnosis|problem"):
        Diagnosis(*words)  # type: ignore[arg-type]
