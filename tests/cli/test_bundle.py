"""``mlopsd bundle``: what is in the archive, what is not, and what cannot be had."""

import json
import logging
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from mlopsd.cli.bundle import program
from mlopsd.cli.bundle.archive import write_archive
from mlopsd.cli.bundle.contents import BundleFile, files_of_host
from mlopsd.cli.bundle.journal import event_of, is_of_daemon
from mlopsd.cli.bundle.program import Unavailable, lines_with, run_program
from mlopsd.cli.errors import CommandError
from mlopsd.log import Json, Text
from tests.cli.command import environment, mlopsd
from tests.keys import line_of
from tests.running import CALM_SYSTEM, Running

SECRETS = {
    "password": "hunter2-of-the-registry",
    "token": "token-in-a-file-0123",
    "variable": "variable-secret-0123",
    "uri": "uri-password-0123",
}


def unpacked(content: bytes) -> dict[str, bytes]:
    """The files of the archive, without its folder."""
    with tarfile.open(fileobj=BytesIO(content)) as archive:
        found = {}
        for member in archive.getmembers():
            stream = archive.extractfile(member)
            assert stream is not None
            found[member.name.partition("/")[2]] = stream.read()
        return found


def bundled(config: Path, target: Path, more: Mapping[str, str] | None = None) -> dict[str, bytes]:
    done = mlopsd("bundle", "-o", target, env={"MLOPSD_CONFIG": str(config), **(more or {})})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{target}: ")
    return unpacked(target.read_bytes())


def test_it_has_the_state_of_the_daemon_and_of_the_host(tmp_path: Path) -> None:
    with Running(tmp_path, CALM_SYSTEM) as daemon:
        files = bundled(daemon.config, tmp_path / "b.tar.gz")
    assert json.loads(files["mlopsd/health.json"])["probes"]["system"]["status"] == "healthy"
    assert json.loads(files["mlopsd/info.json"])["name"] == "mlopsd"
    assert json.loads(files["mlopsd/history.json"])["events"]
    assert b"mlopsd_probe_status" in files["mlopsd/metrics.txt"]
    assert b"[probes.system]" in files["mlopsd/config.toml"]
    assert any(one["subject"] == "mlopsd" for one in json.loads(files["mlopsd/doctor.json"]))
    assert b"aiohttp==" in files["mlopsd/packages.txt"]
    assert files["host/meminfo.txt"].startswith(b"MemTotal:")
    assert files["host/mounts.txt"]
    assert stat.S_IMODE((tmp_path / "b.tar.gz").stat().st_mode) == 0o600


def test_the_manifest_names_each_file_and_each_that_is_missing_with_its_reason(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n[api]\nport = 1\n{CALM_SYSTEM}')
    files = bundled(config, tmp_path / "b.tar.gz")
    manifest = json.loads(files.pop("manifest.json"))
    assert {one["path"]: one["bytes"] for one in manifest["files"]} == {
        path: len(content) for path, content in files.items()
    }
    missing = {one["path"]: one["reason"] for one in manifest["missing"]}
    assert missing["mlopsd/health.json"].startswith("no daemon answers: ")
    assert not missing.keys() & files.keys()
    asked = {one.path for one in files_of_host()}
    assert asked <= missing.keys() | files.keys()


def test_a_configuration_with_a_mistake_costs_that_file_alone(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[probes.system]\nload_degradedd = 1\n")
    files = bundled(config, tmp_path / "b.tar.gz")
    (reason,) = (
        one["reason"]
        for one in json.loads(files["manifest.json"])["missing"]
        if one["path"] == "mlopsd/config.toml"
    )
    assert "load_degradedd" in reason
    assert "host/meminfo.txt" in files


def test_no_secret_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRETS["token"])
    (tmp_path / "password").write_text(SECRETS["password"])
    (tmp_path / "keys").write_text(line_of("k" * 20))
    config = f"""
[api]
api_keys_file = "{tmp_path}/keys"
{CALM_SYSTEM}
[probes.wine]
use = "model"
model = "wine"
[[probes.wine.registries]]
uri = "http://127.0.0.1:9"
username = "mlopsd"
password_file = "{tmp_path}/password"
[[probes.wine.registries]]
uri = "http://127.0.0.1:9/b"
token_file = "{tmp_path}/token"
[[probes.wine.registries]]
uri = "postgresql://u:{SECRETS["uri"]}@127.0.0.1:9/db"
"""
    leaking = {"MLFLOW_TRACKING_TOKEN": SECRETS["variable"]}
    with Running(tmp_path, config) as daemon:
        files = bundled(daemon.config, tmp_path / "b.tar.gz", leaking)
    assert {"mlopsd/config.toml", "mlopsd/health.json", "mlopsd/doctor.json"} <= files.keys()
    for path, content in files.items():
        for name, secret in SECRETS.items():
            assert secret.encode() not in content, (path, name)


def test_secrets_are_masked_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of defence: each byte that goes in is looked at."""
    from mlopsd.cli.bundle.secrets import SecretCleaner
    from mlopsd.cli.options import load_configuration

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["variable"])
    (tmp_path / "token").write_text(f"{SECRETS['token']}\n")
    config = tmp_path / "config.toml"
    config.write_text(
        f'[probes.wine]\nuse = "model"\nmodel = "wine"\n[[probes.wine.registries]]\nuri = "http://h"\n'
        f'token_file = "{tmp_path}/token"\n'
    )
    loaded, configured = load_configuration(config)
    cleaner = SecretCleaner(loaded, list(configured))
    text = (
        f"mount {SECRETS['token']} at /mnt; {SECRETS['variable']}; https://user:{SECRETS['uri']}@host/x; "
        "Authorization: Bearer abcdefghijklmnop\n-----BEGIN PRIVATE KEY-----\nMIIE\n"
        "-----END PRIVATE KEY-----\n"
    )
    cleaned = cleaner.clean(text.encode()).decode()
    for hidden in (*SECRETS.values(), "abcdefghijklmnop", "MIIE"):
        assert hidden not in cleaned
    assert "mount " in cleaned
    assert "@host/x" in cleaned


def record(event: str, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("mlopsd.model", logging.INFO, "", 0, event, None, None)
    made.__dict__.update(fields)
    return made


@pytest.mark.parametrize("form", [Text(), Text(with_time=False), Json()])
def test_lines_that_models_printed_are_known_in_each_form_of_the_log(form: logging.Formatter) -> None:
    for event in ("probe printed", "line printed"):
        line = form.format(record(event, probe="wine", line="a patient  started  x=1"))
        assert event_of(line) == event
        assert not is_of_daemon({"MESSAGE": line, "_TRANSPORT": "stdout", "_PID": "7"})
    for event in ("version in service", "request failed"):
        line = form.format(record(event, probe="wine", reason="probe printed  x=1"))
        assert event_of(line) == event
        assert is_of_daemon({"MESSAGE": line, "_TRANSPORT": "stdout", "_PID": "7"})


@pytest.mark.parametrize("transport", ["syslog", "journal"])
def test_a_line_that_another_process_wrote_to_the_journal_is_left_out(transport: str) -> None:
    line = Text(with_time=False).format(record("version in service"))
    assert not is_of_daemon({"MESSAGE": line, "_TRANSPORT": transport, "_PID": "7"})
    assert is_of_daemon({"MESSAGE": "Started mlopsd.service", "_TRANSPORT": "journal", "_PID": "1"})


def test_a_program_that_does_not_end_is_not_waited_for_and_not_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = tmp_path / "nvidia-smi"
    hung.write_text(f'#!/bin/sh\necho $$ >> "{tmp_path}/runs"\ntrap "" TERM\nexec sleep 1000\n')
    hung.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(program, "PATIENCE", 1.0)
    wanted: list[BundleFile] = [one for one in files_of_host() if "nvidia-smi" in one.path]
    reasons = []
    for one in wanted:
        with pytest.raises(Unavailable) as missing:
            one.read()
        reasons.append(str(missing.value))
    assert reasons == ["nvidia-smi did not end within 1 s", *["nvidia-smi did not end before"] * 2]
    (pid,) = (tmp_path / "runs").read_text().split()
    assert not Path(f"/proc/{pid}/exe").exists()


def test_a_program_may_fail_or_print_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="no-such-program is not installed"):
        run_program("no-such-program")
    with pytest.raises(Unavailable, match=r"false printed nothing \(exit status 1\)"):
        run_program("false")
    monkeypatch.setattr(program, "MOST_BYTES", 10_000)
    assert len(run_program("yes")) == 10_000


def test_lines_of_the_kernel_are_chosen_by_their_words() -> None:
    text = b"[1] usb 1-1: new device\n[2] NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen\n"
    assert lines_with(["xid"], text) == text.splitlines(keepends=True)[1]


def test_it_replaces_no_file_and_leaves_none_half_written(tmp_path: Path) -> None:
    target = tmp_path / "b.tar.gz"
    target.write_text("mine")
    done = mlopsd("bundle", "-o", target)
    assert done.returncode == 1
    assert (
        done.stderr == f"mlopsd: cannot write {target}: it exists; remove it, or name another with --output\n"
    )
    with pytest.raises(CommandError, match="File exists; remove it"):
        write_archive(target, "b", {"a": b""}, 0)
    with pytest.raises(CommandError, match="No such file or directory; use --output"):
        write_archive(tmp_path / "none" / "b", "b", {"a": b""}, 0)
    assert target.read_text() == "mine"
    assert [one.name for one in tmp_path.iterdir()] == ["b.tar.gz"]


def test_it_goes_to_the_standard_output_for_another_host(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n[api]\nport = 1\n{CALM_SYSTEM}')
    command = [sys.executable, "-m", "mlopsd", "bundle", "--config", str(config), "--output", "-"]
    done = subprocess.run(command, capture_output=True, env=environment(), cwd=tmp_path, check=True)
    assert "manifest.json" in unpacked(done.stdout)
    assert b"standard output: " in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["config.toml"]
