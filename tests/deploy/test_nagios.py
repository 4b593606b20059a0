"""``mlopsd status --nagios`` as monitoring plugins are, by the commands that are shipped."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlopsd.cli.terminal import nagios
from tests.running import Running

SHIPPED = Path(__file__).parents[2] / "deploy/nagios/mlopsd.cfg"
LINE = re.compile(r"MLOPSD (OK|WARNING|CRITICAL|UNKNOWN) - [^|]+ \|(?: [a-z]+=\d+)+")
EXITS = {"OK": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}


def commands() -> dict[str, str]:
    """Each command line by its name."""
    text = SHIPPED.read_text("utf-8")
    return dict(re.findall(r"command_name\s+(\S+)\n\s+command_line\s+(.+)", text))


def health(status: str, summary: str, advice: str = "none") -> Mapping[str, Any]:
    return {"status": status, "summary": summary, "advice": advice, "probes": {"gpu": {"status": status}}}


def test_the_shipped_command_gives_one_line_and_the_status_of_the_daemon(tmp_path: Path) -> None:
    with Running(tmp_path, "[probes.system]\n") as daemon:
        daemon.until("/health/", lambda answer: answer["status"] != "unknown")
        program, *words = shlex.split(commands()["check_mlopsd"])
        assert program == "/opt/mlopsd/bin/mlopsd"
        asked = [word.replace("$HOSTADDRESS$:9178", f"127.0.0.1:{daemon.port}") for word in words]
        done = subprocess.run(
            [sys.executable, "-m", "mlopsd", *asked],
            env=dict(os.environ), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    (line,) = done.stdout.splitlines()
    found = LINE.fullmatch(line)
    assert found is not None, line
    assert (EXITS[found[1]], done.stderr) == (done.returncode, "")


def test_the_services_command_is_there_and_every_block_is_closed() -> None:
    text = SHIPPED.read_text("utf-8")
    (used,) = re.findall(r"check_command\s+(\S+)", text)
    assert used in commands()
    assert re.findall(r"^define (\w+) \{$|^(\})$", text, re.MULTILINE) == [
        ("command", ""), ("", "}"), ("command", ""), ("", "}"), ("service", ""), ("", "}"),
    ]  # fmt: skip


STATUSES = {
    "healthy": "OK",
    "degraded": "WARNING",
    "unhealthy": "CRITICAL",
    "unknown": "UNKNOWN",
    "splendid": "UNKNOWN",
}


@pytest.mark.parametrize(("status", "word"), STATUSES.items())
def test_a_status_is_a_word_and_its_exit_status(status: str, word: str) -> None:
    reported = health(status, "gpu: as it is")
    assert nagios.format_health(reported).startswith(f"MLOPSD {word} - ")
    assert nagios.exit_status(reported) == EXITS[word]


def test_the_advice_is_there_however_long_the_summary_and_all_fits_into_nrpes_packet() -> None:
    line = nagios.format_health(health("unhealthy", "gpu 2 is lost | " * 1000, "reboot"))
    assert LINE.fullmatch(line)
    assert "…; advice: reboot | healthy=0" in line
    assert len(line.encode()) < 1024


def test_where_nothing_is_to_be_done_there_is_no_advice() -> None:
    assert "advice" not in nagios.format_health(health("healthy", "all is well"))
