"""A probe written by a stranger joins with one pip install: a real distribution, built and installed here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import CALM_SYSTEM, GIVE_UP, Running

PACKAGE = Path(__file__).parent / "packages" / "mlopsd-probe-neighbours"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the stranger's distribution, built and installed by pip."""
    site = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(PACKAGE)]
    subprocess.run(command, check=True, timeout=120)
    return site


@pytest.fixture
def environment(site: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(site)}


def test_its_three_probes_are_found_with_their_distribution(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "mlopsd", "probes"]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=GIVE_UP)
    assert output.returncode == 0, output.stderr
    for name in ("tcp_port", "heartbeat_file", "network_mount"):
        assert name in output.stdout
    assert "mlopsd-probe-neighbours 1.0" in output.stdout


def test_its_own_test_suite_runs_our_kit(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    output = subprocess.run(
        [*command, "-c", os.devnull, str(PACKAGE / "tests")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert output.returncode == 0, output.stdout
    assert "88 passed" in output.stdout


def test_async_threaded_and_process_probe_run_beside_ours(
    environment: dict[str, str], tmp_path: Path
) -> None:
    beat = tmp_path / "beat"
    beat.touch()
    text = f"""{CALM_SYSTEM}
[probes.registry_port]
use = "tcp_port"
port = 9
critical = false
interval = "1h"
[probes.nightly]
use = "heartbeat_file"
path = "{beat}"
[probes.models]
use = "network_mount"
path = "/proc"
"""
    with Running(tmp_path, text, environment=environment) as daemon:
        health = daemon.get("/health/")
        assert health.status == 200
        assert health.json["status"] == "degraded", "a probe that is not critical degrades at most"
        assert health.json["probes"] == {
            "system": "healthy",
            "registry_port": "unhealthy",
            "nightly": "healthy",
            "models": "healthy",
        }
        assert health.json["advice"] == "restart_app"
        assert daemon.get("/health/registry_port").status == 503
        metrics = daemon.get("/metrics").body.decode()
        assert 'mlopsd_tcp_port_refused_total{probe="registry_port"} 1\n' in metrics
        assert 'mlopsd_heartbeat_file_age_seconds{probe="nightly"} ' in metrics
        assert 'mlopsd_network_mount_free_bytes{probe="models"} 0\n' in metrics
        info = daemon.get("/info").json
        assert "mlopsd-probe-neighbours 1.0" in str(info)
        assert "mlopsd_probe_neighbours.tcp_port" not in str(daemon.log)


def test_its_predictor_answers_over_http(environment: dict[str, str], tmp_path: Path) -> None:
    weights = tmp_path / "weights.json"
    weights.write_text('{"age": 0.5, "income": 2}', "utf-8")
    text = '[api]\npredictions = "open"\n[probes.rule]\nuse = "formula"\nmodel = "by-hand"\n'
    text += f'path = "{weights}"\nbuckets = [5, 10]\n'
    rows = b'{"dataframe_records": [{"age": 40, "income": 1}, {"age": 8, "income": 0}]}'
    json = {"Content-Type": "application/json"}
    with Running(tmp_path, text, environment=environment) as daemon:
        assert daemon.get("/health/rule").json["status"] == "healthy"
        answer = daemon.ask("POST", "/invocations", json, body=rows)
        assert (answer.status, answer.json) == (200, {"predictions": [22.0, 4.0]})
        refusal = daemon.ask("POST", "/invocations", json, body=b"{}")
        assert (refusal.status, refusal.json["detail"]) == (
            400,
            "the body must have dataframe_records with age, income",
        )
        assert daemon.get("/v2/models/by-hand/ready").status == 200
        metrics = daemon.get("/metrics").body.decode()
        assert 'mlopsd_formula_prediction_value_bucket{probe="rule",le="5.0"} 1\n' in metrics


def test_what_is_not_configured_is_not_imported(environment: dict[str, str], tmp_path: Path) -> None:
    script = (
        "import sys; from mlopsd.config.probes import configure; from mlopsd.config.load import load; "
        "from pathlib import Path; configure(load(Path(sys.argv[1]), {}, {})); "
        "print(sorted(name for name in sys.modules if 'probe' in name and not name.startswith('mlopsd.')))"
    )
    config = tmp_path / "config.toml"
    config.write_text('[probes.beat]\nuse = "heartbeat_file"\npath = "/dev/null"\n', "utf-8")
    output = subprocess.run(
        [sys.executable, "-c", script, str(config)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stdout.strip() == "['mlopsd_probe_neighbours', 'mlopsd_probe_neighbours.heartbeat_file']"
