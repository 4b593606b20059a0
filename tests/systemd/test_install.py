"""``mlopsd install`` from a wheel, as root on a machine with systemd: in, over, and out again."""

from collections.abc import Iterator

import pytest

from mlopsd.cli.install.command import SHELL_FILES
from tests.systemd.machine import CONFIG, MLOPSD, NEEDED, VENV, Box

pytestmark = [NEEDED, pytest.mark.timeout(180)]
UNIT = "/etc/systemd/system/mlopsd.service"
SYSUSERS = "/etc/sysusers.d/mlopsd.conf"
LINK = "/usr/local/bin/mlopsd"
SYSUSERS_PROGRAM = "/usr/bin/systemd-sysusers"
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def installed_again(box: Box) -> str:
    return box.run(MLOPSD, "install").stdout


def test_it_makes_the_user_the_unit_and_a_configuration_that_only_the_service_may_read(
    installed: Box,
) -> None:
    user, _, uid, *_, home, shell = installed.run("getent", "passwd", "mlopsd").stdout.strip().split(":")
    assert (user, home) == ("mlopsd", "/var/lib/mlopsd")
    assert 0 < int(uid) < 1000
    assert shell.endswith("nologin")
    owner = installed.run("stat", "-c", "%a %U %G", CONFIG).stdout.strip()
    assert owner == "640 root mlopsd"
    assert f"ExecStart={MLOPSD} run" in installed.read(UNIT)


def test_the_installed_configuration_is_good_and_the_service_can_read_it(installed: Box) -> None:
    as_service = ("setpriv", "--reuid=mlopsd", "--regid=mlopsd", "--init-groups")
    done = installed.run(*as_service, MLOPSD, "config", "check")
    assert done.stdout.startswith(f"OK: {CONFIG}; probes: ")


@pytest.mark.parametrize("umask", ["077", "027"])
def test_a_hardened_shell_of_root_keeps_nothing_from_the_service(installed: Box, umask: str) -> None:
    installed.run("rm", "-r", "/etc/mlopsd", "/etc/sysusers.d", "/usr/local/bin")
    installed.run("sh", "-c", f"umask {umask}; exec {MLOPSD} install")
    modes = installed.run(
        "stat", "-c", "%a", "/etc/mlopsd", "/etc/sysusers.d", "/usr/local/bin"
    ).stdout.split()
    assert modes == ["755"] * 3
    as_service = ("setpriv", "--reuid=mlopsd", "--regid=mlopsd", "--init-groups")
    assert installed.run(*as_service, MLOPSD, "config", "check").stdout.startswith(f"OK: {CONFIG}")
    installed.run("systemctl", "start", "mlopsd")
    assert installed.show("ActiveState") == "active"


def test_every_user_finds_the_program(installed: Box) -> None:
    assert installed.run("readlink", LINK).stdout.strip() == MLOPSD
    assert installed.run(*NOBODY, LINK, "--version").stdout.startswith("mlopsd ")


def test_shells_and_man_find_their_files(installed: Box) -> None:
    for path in SHELL_FILES.values():
        assert installed.exists(str(path))


def test_a_program_of_somebody_else_on_the_path_is_kept(installed: Box) -> None:
    installed.run("rm", LINK)
    installed.write(LINK, "mine\n")
    assert f"keep {LINK}: it is not of an installation of mlopsd" in installed_again(installed)
    assert installed.read(LINK) == "mine\n"
    installed.run(MLOPSD, "install", "--uninstall")
    assert installed.exists(LINK)
    installed.run("rm", LINK)


def test_the_unit_runs_the_program_of_the_virtual_environment_that_installed_it(installed: Box) -> None:
    installed.run("cp", "-a", VENV, "/opt/another")
    installed.run("sed", "-i", "s#/opt/mlopsd/#/opt/another/#", "/opt/another/bin/mlopsd")
    installed.run("/opt/another/bin/mlopsd", "install")
    assert "ExecStart=/opt/another/bin/mlopsd run" in installed.read(UNIT)
    assert "/opt/mlopsd" not in installed.read(UNIT)
    assert installed.run("readlink", LINK).stdout.strip() == "/opt/another/bin/mlopsd"
    installed.run("rm", "-r", "/opt/another")


def test_installing_again_changes_nothing(installed: Box) -> None:
    reported = installed_again(installed)
    assert "write" not in reported
    assert not installed.exists(f"{CONFIG}.new")


def test_an_upgrade_replaces_a_file_that_nobody_changed(installed: Box) -> None:
    earlier_release(installed)
    reported = installed_again(installed)
    assert f"write {CONFIG}\n" in reported
    assert "an earlier release" not in installed.read(CONFIG)


def earlier_release(box: Box) -> None:
    """Make it look as if a release with other defaults had installed the configuration."""
    box.write(CONFIG, "# an earlier release\n")
    digest = box.run("sha256sum", CONFIG).stdout.split()[0]
    box.run("sed", "-i", rf's#"{CONFIG}": "[0-9a-f]*"#"{CONFIG}": "{digest}"#', "/etc/mlopsd/.installed.json")


def test_an_upgrade_keeps_a_changed_configuration_and_puts_the_new_one_beside_it(installed: Box) -> None:
    installed.write(CONFIG, "# mine\n[probes.system]\ninterval = 20\n")
    reported = installed_again(installed)
    (line,) = [line for line in reported.splitlines() if "config.toml" in line and "keep" in line]
    assert f"{CONFIG}.new" in line
    assert installed.read(CONFIG).startswith("# mine\n")
    assert "[api]" in installed.read(f"{CONFIG}.new") or installed.read(f"{CONFIG}.new").startswith("#")
    assert "keep" not in installed_again(installed), "what was said once is not said at each upgrade"


def test_a_changed_unit_is_kept_too(installed: Box) -> None:
    changed = installed.read(UNIT).replace("WatchdogSec=30", "WatchdogSec=31")
    installed.write(UNIT, changed)
    installed_again(installed)
    assert installed.read(UNIT) == changed
    assert "WatchdogSec=30" in installed.read(f"{UNIT}.new")
    installed.run("rm", f"{UNIT}.new")


def test_uninstalling_stops_the_service_and_leaves_nothing_but_its_state(service: Box) -> None:
    service.run("systemctl", "enable", "mlopsd")
    reported = service.run(MLOPSD, "install", "--uninstall").stdout
    assert service.run("pgrep", "-u", "mlopsd", check=False).stdout == ""
    wants = "/etc/systemd/system/multi-user.target.wants/mlopsd.service"
    for path in (UNIT, LINK, SYSUSERS, "/etc/mlopsd", wants, *map(str, SHELL_FILES.values())):
        assert not service.exists(path), path
    assert service.exists("/var/lib/mlopsd/layout")
    assert "keep /var/lib/mlopsd" in reported


def test_uninstalling_keeps_a_changed_configuration_and_says_so(installed: Box) -> None:
    installed.write(CONFIG, "# mine\n")
    reported = installed.run(MLOPSD, "install", "--uninstall").stdout
    assert f"keep {CONFIG}: it was changed" in reported
    assert installed.read(CONFIG) == "# mine\n"
    assert not installed.exists(UNIT)


def test_uninstalling_what_is_not_there_is_no_mistake(installed: Box) -> None:
    installed.run(MLOPSD, "install", "--uninstall")
    installed.run(MLOPSD, "install", "--uninstall")


def test_a_dry_run_says_each_step_and_does_none(installed: Box) -> None:
    installed.run(MLOPSD, "install", "--uninstall")
    reported = installed.run(MLOPSD, "install", "--dry-run").stdout
    for step in (f"would write {UNIT}", f"would write {CONFIG}", "would run systemctl daemon-reload"):
        assert step in reported
    assert not installed.exists(UNIT)
    assert not installed.exists("/etc/mlopsd")


def test_an_ordinary_users_dry_run_says_what_it_cannot_read(installed: Box) -> None:
    done = installed.run(*NOBODY, MLOPSD, "install", "--dry-run")
    assert f"would read {CONFIG} first: this user cannot (Permission denied); run it with sudo" in done.stdout
    assert "would run systemctl daemon-reload" in done.stdout, "it goes on after that"
    assert done.stderr == ""
    assert installed.run(*NOBODY, MLOPSD, "install", "--dry-run", "--uninstall").stderr == ""


@pytest.fixture
def without_sysusers(installed: Box) -> Iterator[Box]:
    """A host that has no user of ours, and no systemd-sysusers to make it."""
    installed.run(MLOPSD, "install", "--uninstall")
    installed.run("userdel", "mlopsd")
    installed.run("mv", SYSUSERS_PROGRAM, f"{SYSUSERS_PROGRAM}.away")
    yield installed
    installed.run("mv", f"{SYSUSERS_PROGRAM}.away", SYSUSERS_PROGRAM)


def test_without_sysusers_useradd_makes_the_same_user(without_sysusers: Box) -> None:
    box = without_sysusers
    assert "run useradd --system " in installed_again(box)
    _, _, uid, *_, home, shell = box.run("getent", "passwd", "mlopsd").stdout.strip().split(":")
    assert 0 < int(uid) < 1000
    assert (home, shell) == ("/var/lib/mlopsd", "/usr/sbin/nologin")
    assert set(box.run("id", "-Gn", "mlopsd").stdout.split()) == {"mlopsd", "video"}
    assert box.run("stat", "-c", "%a %U %G", CONFIG).stdout.strip() == "640 root mlopsd"
    assert not box.exists(SYSUSERS)
    box.run("systemctl", "start", "mlopsd")
    assert box.show("ActiveState") == "active"
    assert "useradd" not in installed_again(box), "a user that is there is not made again"
    assert "keep /var/lib/mlopsd" in box.run(MLOPSD, "install", "--uninstall").stdout


def test_whoever_is_not_root_gets_one_line(installed: Box) -> None:
    done = installed.run(
        "setpriv", "--reuid=mlopsd", "--regid=mlopsd", "--clear-groups", MLOPSD, "install", check=False
    )
    assert done.returncode == 1
    assert done.stderr == "mlopsd: cannot install: only root may install; run it with sudo\n"


def test_a_folder_that_the_service_cannot_enter_is_named(installed: Box) -> None:
    installed.run("chmod", "o-x", VENV)
    try:
        done = installed.run(MLOPSD, "install", check=False)
    finally:
        installed.run("chmod", "o+x", VENV)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"may not enter {VENV}" in line
    assert f"chmod o+x {VENV}" in line


def test_slurms_health_check_lies_beside_it_and_runs_without_an_environment(installed: Box) -> None:
    program = f"{VENV}/share/mlopsd/slurm/mlopsd-health-check"
    reported = installed.run("env", "-i", "SLURMD_NODENAME=gpu7", program, "--scontrol", "/bin/false")
    assert reported.stdout == "", "nobody answers, and that is no reason to drain at once"
    output = installed.run(
        "env", "-i", program, "--unknown-after", "1e-9", "--scontrol", "/bin/false", check=False
    )
    assert (output.returncode, output.stderr) == (1, "")
    assert "cannot see node " in output.stdout
    installed.run("rm", "-f", "/run/mlopsd-health-check")
