"""The service under a real systemd: start, reload, stop, and what it survives."""

import json
import re
from typing import Any

import pytest

from mlopsd.cli.runbook import read_runbook
from tests.running import CALM_SYSTEM
from tests.systemd.machine import CONFIG, DROP_IN, MLOPSD, NEEDED, PORT, VENV, Box

pytestmark = [NEEDED, pytest.mark.timeout(180)]
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
QUIET = f"{CALM_SYSTEM}interval = 3600\n"


@pytest.fixture
def calm(installed: Box) -> Box:
    """The host may be busy: what it reads is true, and no verdict of a test."""
    installed.write(CONFIG, CALM_SYSTEM)
    return installed


@pytest.fixture
def service(calm: Box) -> Box:
    """The service runs."""
    calm.run("systemctl", "start", "mlopsd")
    return calm


def main_pid(box: Box) -> int:
    return int(box.show("MainPID"))


def test_start_is_done_when_the_verdict_is_known_and_asked_for(service: Box) -> None:
    assert service.show("ActiveState") == "active"
    verdict = service.get("/health/")
    assert verdict["status"] in ("healthy", "degraded")
    assert verdict["probes"] == {"system": verdict["status"]}


def test_systemctl_status_shows_the_verdict(service: Box) -> None:
    shown = service.run("systemctl", "status", "mlopsd").stdout
    (status,) = re.findall(r'Status: "(.*)"', shown)
    assert "probes healthy" in status or "degraded" in status


def test_status_of_the_command_line_goes_over_the_socket_of_the_service(service: Box) -> None:
    done = service.run(MLOPSD, "status", check=False)
    assert done.returncode in (0, 1)
    assert "system" in done.stdout
    socket = service.run("stat", "-c", "%F %a %U %G", "/run/mlopsd/mlopsd.sock").stdout
    assert socket.strip() == "socket 660 mlopsd mlopsd"


def examined(box: Box, *user: str) -> dict[str, dict[str, str]]:
    """What doctor says, by its sentence."""
    told = box.run(*user, MLOPSD, "doctor", "--json", check=False).stdout
    return {one["summary"]: one for one in json.loads(told)}


def test_doctor_knows_the_unit_the_daemon_and_the_rights_of_root(service: Box) -> None:
    found = examined(service)
    idle = found["mlopsd.service does not start with the host"]
    assert (idle["status"], idle["fix"]) == ("problem", "systemctl enable mlopsd.service")
    assert found["this user may act over /run/mlopsd/mlopsd.sock"]["status"] == "ok"
    assert found[f"{CONFIG} has not changed since the daemon read it"]["status"] == "ok"
    assert any(one.startswith("metrics can be scraped at http://127.0.0.1:") for one in found)
    service.run("systemctl", "enable", "mlopsd")
    assert examined(service)["mlopsd.service starts with the host"]["status"] == "ok"
    service.run("systemctl", "disable", "mlopsd")


def test_doctor_tells_an_ordinary_user_how_to_act_and_what_it_cannot_read(service: Box) -> None:
    found = examined(service, *NOBODY)
    barred = found["this user may not act over /run/mlopsd/mlopsd.sock"]
    assert barred["fix"].startswith("sudo usermod -aG mlopsd ")
    problems = [one["summary"] for one in found.values() if one["status"] == "problem"]
    assert not any("no daemon answers" in one or "Permission denied" in one for one in problems)
    unread = [one for one in found.values() if "Permission denied" in one["summary"]]
    assert [one["status"] for one in unread] == ["not_checked"]


def test_a_bundle_has_the_journal_without_what_others_wrote_there(service: Box) -> None:
    service.run("systemd-run", "--wait", "logger", "-t", "mlopsd", "a line of somebody else")
    service.run("rm", "-rf", "/tmp/b.tar.gz", "/tmp/b")
    told = service.run(MLOPSD, "bundle", "-o", "/tmp/b.tar.gz").stdout
    assert told.startswith("/tmp/b.tar.gz: ")
    service.run("bash", "-c", "mkdir /tmp/b && tar xzf /tmp/b.tar.gz -C /tmp/b --strip-components 1")
    journal = service.read("/tmp/b/mlopsd/journal.jsonl")
    assert "started" in journal
    assert "somebody else" not in journal
    assert "ActiveState=active" in service.read("/tmp/b/mlopsd/unit.txt")


def test_explain_has_the_commands_of_a_host_with_systemd(service: Box) -> None:
    told = service.run(MLOPSD, "explain", "MlopsdHostUnhealthy").stdout
    assert "journalctl -u mlopsd -o cat --no-pager -g 'health changed'" in told
    assert "--unix-socket /run/mlopsd/mlopsd.sock http://localhost/health/detailed" in told


def test_systemd_takes_each_command_of_the_runbook_that_is_for_it(service: Box) -> None:
    lines = [line for section in read_runbook().sections.values() for line in section.look]
    parts = {part for line in lines for part in line.split("; ")}
    ours = sorted(part for part in parts if re.match(r"(journalctl|systemctl) .*mlopsd", part))
    assert len(ours) > 8
    for command in ours:
        done = service.run("bash", "-c", command.replace("PROBE", "system"), check=False)
        assert done.returncode in (0, 1), command  # 1: no line of that kind
        assert not done.stderr, command


def test_an_ordinary_user_may_ask_but_not_act(service: Box) -> None:
    nobody = (*NOBODY, MLOPSD)
    assert service.run(*nobody, "status", check=False).returncode in (0, 1)
    done = service.run(*nobody, "reload", check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{CONFIG}: cannot read the configuration: Permission denied" in line
    assert line.endswith("or name the daemon with --url")


def test_an_environment_that_speaks_of_another_daemon_is_believed(service: Box) -> None:
    done = service.run("env", "MLOPSD_SOCKET=/nowhere", "MLOPSD_API__PORT=1", MLOPSD, "status", check=False)
    assert done.returncode == 3
    assert "http://127.0.0.1:1" in done.stderr


def test_the_daemon_has_no_privilege_and_cannot_write_outside_its_state(service: Box) -> None:
    pid = str(main_pid(service))
    status = service.read(f"/proc/{pid}/status")
    assert re.search(r"^CapEff:\s*0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s*1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s*2$", status, re.MULTILINE)
    become = ("setpriv", "--reuid=mlopsd", "--regid=mlopsd", "--clear-groups")
    enter = ("nsenter", "--mount", "--target", pid, *become)
    assert service.run(*enter, "touch", "/var/lib/mlopsd/probe", check=False).returncode == 0
    for forbidden in ("/etc/mlopsd/x", "/home/x", "/usr/x", "/var/x", "/opt/mlopsd/x"):
        assert service.run(*enter, "touch", forbidden, check=False).returncode != 0, forbidden


def test_what_the_sandboxed_daemon_reads_is_what_root_reads(service: Box) -> None:
    inside = service.get("/health/system")
    checked = json.loads(service.run(MLOPSD, "check", "--json", "system", check=False).stdout)
    outside = checked["probes"]["system"]
    assert names(inside) == names(outside)
    for fact in ("boot_time", "hostname", "kernel", "memory_total_bytes", "absent"):
        assert inside["facts"].get(fact) == outside["facts"].get(fact), fact


def names(reading: dict[str, Any]) -> set[tuple[str, str | None]]:
    """What was judged, but for the limit of the service's own group, which root's shell is not in."""
    judged = {(finding["name"], finding.get("subject")) for finding in reading["findings"]}
    return judged - {("pids", "cgroup")}


def test_its_numbers_are_those_of_the_host_and_not_of_its_sandbox(service: Box) -> None:
    samples = scrape(service)
    blocks, block, inodes = map(int, service.run("stat", "-f", "-c", "%b %S %c", "/").stdout.split())
    assert samples['disk_total_bytes{probe="system",path="/"}'] == blocks * block
    assert samples['disk_inodes{probe="system",path="/"}'] == inodes
    assert samples['disk_read_only{probe="system",path="/"}'] == 0
    memory = int(re.findall(r"MemTotal:\s+(\d+) kB", service.read("/proc/meminfo"))[0])
    assert samples['memory_total_bytes{probe="system"}'] == memory * 1024
    boot = int(re.findall(r"btime (\d+)", service.read("/proc/stat"))[0])
    assert samples['boot_timestamp_seconds{probe="system"}'] == boot
    assert any(name.startswith("pressure_ratio") for name in samples) == service.exists("/proc/pressure/cpu")
    service.until(lambda: abs(threads(service) - pids(service)) < 30, "the threads of the whole host")


def threads(box: Box) -> int:
    return int(box.read("/proc/loadavg").split()[3].split("/")[1])


def pids(box: Box) -> float:
    check(box)
    return scrape(box)['pids{probe="system",scope="host"}']


# posix_spawn(3) sleeps uninterruptibly until its child has begun; this one waits at a pipe before that
ASLEEP = """
import os
os.mkfifo("/tmp/never")
wait = (os.POSIX_SPAWN_OPEN, 9, "/tmp/never", os.O_RDONLY, 0)
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[wait])
"""


def test_it_sees_a_process_of_root_that_sleeps_uninterruptibly(service: Box) -> None:
    service.until(lambda: asleep(service) == 0, "nobody waits for a disk any more")
    service.run("rm", "-f", "/tmp/never")
    service.run("systemd-run", "--unit=asleep", "/usr/bin/env", f"{VENV}/bin/python", "-c", ASLEEP)
    pid = service.run("systemctl", "show", "-P", "MainPID", "asleep.service").stdout.strip()
    service.until(lambda: "State:\tD" in service.read(f"/proc/{pid}/status"), "a process in the state D")
    service.until(lambda: asleep(service) == 1, "that one, and none that waits for a disk")
    service.run("systemctl", "kill", "-s", "KILL", "asleep.service")
    service.until(lambda: asleep(service) == 0, "its end")


def asleep(box: Box) -> float:
    """How many processes sleep uninterruptibly, looked at now."""
    check(box)
    return scrape(box)['uninterruptible_processes{probe="system"}']


def check(box: Box) -> None:
    post = ("curl", "-sS", "-X", "POST", "--unix-socket", "/run/mlopsd/mlopsd.sock")
    box.run(*post, "http://localhost/health/system/check")


def scrape(box: Box) -> dict[str, float]:
    """The system probe's samples by name and labels."""
    page = box.run("curl", "-sS", "-m", "5", f"http://127.0.0.1:{PORT}/metrics").stdout
    prefix = "mlopsd_system_"
    pairs = (line.rsplit(" ", 1) for line in page.splitlines() if line.startswith(prefix))
    return {name.removeprefix(prefix): float(value) for name, value in pairs}


def test_reload_applies_a_good_file(service: Box) -> None:
    before = main_pid(service)
    service.write(CONFIG, f"{CALM_SYSTEM}interval = 77\n")
    service.run("systemctl", "reload", "mlopsd")
    assert service.show("ActiveState") == "active"
    assert service.get("/health/system")["interval_seconds"] == 77
    assert main_pid(service) == before


def test_reload_of_a_bad_file_fails_says_the_line_and_changes_nothing(service: Box) -> None:
    service.write(CONFIG, f"{CALM_SYSTEM}intervall = 77\n")
    done = service.run("systemctl", "reload", "mlopsd", check=False)
    assert done.returncode != 0
    assert service.show("ActiveState") == "active"
    assert service.get("/health/")["status"] in ("healthy", "degraded")
    service.until(lambda: "intervall" in service.journal(), "the misspelt word in the journal")
    errors = service.run("journalctl", "-u", "mlopsd", "-p", "err", "-o", "cat", "--since", "-5min").stdout
    assert "ERROR   configuration not reloaded" in errors, "the journal has the priority of a line"
    shown = service.run(MLOPSD, "status", check=False).stdout
    assert "the last reload of the configuration failed" in shown
    assert "intervall" in shown
    status = service.run("systemctl", "status", "mlopsd", check=False).stdout
    assert re.search(r'Status: ".*reload failed', status)


def test_stop_waits_for_nothing_and_is_clean(service: Box) -> None:
    service.run("systemctl", "stop", "mlopsd")
    assert service.show("Result") == "success"
    assert service.show("ExecMainStatus") == "0"
    assert service.run("pgrep", "-u", "mlopsd", check=False).stdout == ""
    assert not service.exists("/run/mlopsd/mlopsd.sock")


def test_a_frozen_daemon_is_killed_by_the_watchdog_and_comes_back(calm: Box) -> None:
    calm.write(DROP_IN, "[Service]\nWatchdogSec=10\nTimeoutAbortSec=1\nRestartSec=0\n")
    calm.run("systemctl", "daemon-reload")
    calm.run("systemctl", "start", "mlopsd")
    frozen = main_pid(calm)
    calm.run("systemctl", "kill", "--kill-whom=main", "-s", "STOP", "mlopsd")
    calm.until(
        lambda: main_pid(calm) not in (0, frozen) and calm.show("ActiveState") == "active",
        "another daemon in the place of the frozen one",
    )
    calm.until(lambda: "watchdog" in whole_journal(calm).lower(), "a line about the watchdog")
    assert int(calm.show("NRestarts")) >= 1
    calm.until(lambda: is_well(calm), "a daemon that answers and is well")


def whole_journal(box: Box) -> str:
    return box.run("journalctl", "-u", "mlopsd", "-o", "cat").stdout


def is_well(box: Box) -> bool:
    done = box.run("curl", "-sS", "-m", "5", f"http://127.0.0.1:{PORT}/health/", check=False)
    return done.returncode == 0 and json.loads(done.stdout)["status"] in ("healthy", "degraded")


def test_a_stuck_process_of_the_last_run_does_not_keep_the_next_from_starting(installed: Box) -> None:
    installed.write(DROP_IN, "[Service]\nRestartSec=0\n")
    installed.run("systemctl", "daemon-reload")
    installed.write(CONFIG, f"{QUIET}[probes.lingering]\n")
    installed.run("systemctl", "start", "mlopsd")
    before = main_pid(installed)
    stuck = str(installed.get("/health/lingering")["facts"]["pid"])
    move_out_of_the_unit(installed, stuck)
    installed.write(CONFIG, QUIET)
    installed.run("systemctl", "kill", "--kill-whom=main", "-s", "KILL", "mlopsd")
    installed.until(lambda: main_pid(installed) != before, "the end of the daemon")
    installed.run("systemctl", "start", "mlopsd")
    assert installed.exists(f"/proc/{stuck}"), "it was to outlive the daemon"
    assert installed.show("ActiveState") == "active"
    assert installed.get("/health/")["probes"].keys() == {"system"}


def move_out_of_the_unit(box: Box, pid: str) -> None:
    """Make *pid* a unit of its own, which systemd does not end together with the service."""
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    arguments = ("ssa(sv)a(sa(sv))", "stuck.scope", "fail", "1", "PIDs", "au", "1", pid, "0")
    box.run("busctl", "call", *manager, "StartTransientUnit", *arguments)
    box.until(lambda: "stuck.scope" in box.read(f"/proc/{pid}/cgroup"), "a scope of its own")


def test_a_second_daemon_on_the_same_state_folder_is_one_clear_line(service: Box) -> None:
    pid = main_pid(service)
    done = service.run(
        "env", "STATE_DIRECTORY=/var/lib/mlopsd", MLOPSD, "run", "--port", str(PORT + 1), check=False
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert re.match(rf"mlopsd: cannot start: another mlopsd \(pid {pid}\) uses /var/lib/mlopsd; .+", lines[0])


def test_the_unit_is_sound_and_its_exposure_is_low(installed: Box) -> None:
    done = installed.run("systemd-analyze", "verify", "mlopsd.service")
    assert (done.stdout, done.stderr) == ("", "")
    reported = installed.run("systemd-analyze", "security", "mlopsd.service", "--no-pager").stdout
    (score,) = re.findall(r"Overall exposure level for mlopsd\.service: ([0-9.]+)", reported)
    assert float(score) <= 2.8
