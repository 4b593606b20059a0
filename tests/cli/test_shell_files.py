"""The completion of bash completes, and the man page renders without a warning."""

import os
import subprocess
from pathlib import Path

import pytest

from mlopsd.cli import COMMANDS
from mlopsd.cli.install.command import SHELL_FILES

SHELL = Path(__file__).parents[2] / "mlopsd/cli/install/shell"


def completed(line: str, environment: dict[str, str] | None = None) -> list[str]:
    """What bash offers for the last word of *line*."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""
        source {SHELL / "mlopsd.bash"}
        COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}
        function_name=$(complete -p mlopsd | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function_name mlopsd '{words[-1]}' '{words[-2]}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ended = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **(environment or {})},
    )
    assert not ended.stderr
    return ended.stdout.split()


def test_bash_completes_commands_and_options() -> None:
    assert set(COMMANDS) <= set(completed("mlopsd "))
    assert completed("mlopsd st") == ["status"]
    assert "--nagios" in completed("mlopsd status --n")
    assert completed("mlopsd config s") == ["show"]


def test_bash_completes_the_probes_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[api]\n[probes.system]\n[probes.wine]\n#[probes.gpu]\n[probes.wine.serving]\n")
    configured = {"MLOPSD_CONFIG": str(file)}
    assert completed("mlopsd reload w", configured) == ["wine"]
    assert {"system", "wine"} <= set(completed("mlopsd check ", configured))
    assert completed("mlopsd check w", {"MLOPSD_CONFIG": str(tmp_path / "absent")}) == []


def test_bash_completes_files(tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    assert completed(f"mlopsd run --config {tmp_path}/c") == [f"{tmp_path}/config.toml"]


def test_the_man_page_renders_without_a_warning() -> None:
    command = ["groff", "-man", "-Tutf8", "-ww", "-P-cbou", str(SHELL / "mlopsd.1")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert not ended.stderr
    for name in COMMANDS:
        assert f"mlopsd {name}" in ended.stdout


@pytest.mark.parametrize("name", SHELL_FILES)
def test_every_file_that_install_places_is_shipped(name: str) -> None:
    assert (SHELL / name).stat().st_size
