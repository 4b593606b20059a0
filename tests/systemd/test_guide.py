"""What the guide for systemd says, done in its order: its commands, its drop-ins, its files."""

import re
from pathlib import Path

import pytest

from mlopsd.cli.install.command import SHELL_FILES
from tests.systemd.machine import MLOPSD, NEEDED, PORT, Box

pytestmark = [NEEDED, pytest.mark.timeout(240)]
DOCS = Path(__file__).parents[2] / "docs"
GUIDE = DOCS / "guides/systemd.md"
WHILE_IT_RUNS = (DOCS / "operations/troubleshooting.md", DOCS / "guides/nagios.md")
TEXT = GUIDE.read_text("utf-8")
FROM_AFAR = ("python3 -m venv", "/opt/mlopsd/bin/pip install")  # the box has both already, and no network
VERDICTS = ("status", "check")
FOLDER = "/etc/systemd/system/mlopsd.service.d"


def blocks(language: str, page: Path = GUIDE) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def commands() -> list[str]:
    """The commands of the guide, and before its last, which uninstalls, those of the other pages."""
    *setting_up, uninstalling = blocks("sh")
    running = [block for page in WHILE_IT_RUNS for block in blocks("sh", page)]
    lines = "".join([*setting_up, *running, uninstalling]).splitlines()
    return [line for line in lines if not line.startswith(FROM_AFAR)]


def drop_ins() -> dict[str, str]:
    return {text.partition("\n")[0].removeprefix("# "): text for text in blocks("ini")}


def test_every_command_does_what_it_says(box: Box) -> None:
    assert len(commands()) > 15
    for command in commands():
        done = box.run("sh", "-c", command, check=False)
        verdict = "/mlopsd " in command and command.split()[1] in VERDICTS
        assert done.returncode in ((0, 1, 2) if verdict else (0,)), f"{command}: {done.stdout}{done.stderr}"
        assert done.stdout or not command.startswith("journalctl"), command
    assert not box.exists("/etc/mlopsd")


def test_every_drop_in_is_good_and_the_service_starts_with_all_of_them(installed: Box) -> None:
    installed.run("mkdir", "-p", "/srv/mlflow")
    key = installed.run(MLOPSD, "key", "new", "ci", "--file", "/etc/mlopsd/api_keys").stdout.strip()
    installed.run("chgrp", "mlopsd", "/etc/mlopsd/api_keys")
    for name, text in drop_ins().items():
        installed.write(f"{FOLDER}/{name}", text)
    try:
        installed.run("systemctl", "daemon-reload")
        done = installed.run("systemd-analyze", "verify", "mlopsd.service")
        assert (done.stdout, done.stderr) == ("", "")
        installed.run("systemctl", "start", "mlopsd")
        check_keys(installed, key)
        check_the_rest(installed)
        installed.run("systemctl", "reload", "mlopsd")
    finally:
        installed.run("systemctl", "stop", "mlopsd", check=False)
        installed.run("rm", "-r", FOLDER)


def check_keys(box: Box, key: str) -> None:
    """A POST over TCP wants the key, until its line is gone."""
    post = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST")
    url = f"http://127.0.0.1:{PORT}/health/system/check"
    assert box.run(*post, url).stdout == "401"
    assert box.run(*post, "-H", f"X-API-Key: {key}", url).stdout == "200"
    box.write("/etc/mlopsd/api_keys", "# nobody\n")
    box.until(lambda: box.run(*post, "-H", f"X-API-Key: {key}", url).stdout != "200", "the key has ended")


def check_the_rest(box: Box) -> None:
    assert box.show("MemoryMax") == str(64 * 2**30)
    assert "0.0.0.0" in box.run("sh", "-c", "ss -ltn 2>/dev/null || cat /proc/net/tcp").stdout.replace(
        "00000000:23DA", "0.0.0.0:9178"
    )
    assert box.show("TimeoutStopUSec") == "2min"


def test_every_file_that_is_installed_stands_in_it(installed: Box) -> None:
    record = installed.read("/etc/mlopsd/.installed.json")
    paths = re.findall(r'"(/[^"]+)":', record)
    assert len(paths) == 3 + len(SHELL_FILES)
    for path in (*paths, "/etc/mlopsd/.installed.json"):
        assert f"`{path}`" in TEXT
