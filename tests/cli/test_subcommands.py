"""Commands of other packages: they join by an entry point, and a broken one breaks no other."""

from pathlib import Path

import pytest

from mlopsd.cli import COMMANDS
from tests.cli.command import Done, mlopsd
from tests.docs.test_docs import ROOT
from tests.installed import installed

GUIDE = (ROOT / "docs/extending/commands.md").read_text("utf-8")
GROUP = "mlopsd.subcommands"
COUNTS = GUIDE.split("```python\n")[1].split("```")[0]  # the module of the guide
TABLE = '[probes.one]\nuse = "system"\n[probes.two]\nuse = "system"\n'
BROKEN = "raise RuntimeError('out of order')\n"


def with_module(folder: Path, name: str, code: str, *words: str, command: str | None = None) -> Done:
    """``mlopsd`` with *words*, where a package has the *code* as its command *name*."""
    (folder / f"{name}_module.py").write_text(code, "utf-8")
    points = {command or name: f"{name}_module"}
    return mlopsd(*words, env=installed(folder, points, folder, name=f"of_{name}", group=GROUP))


def test_the_command_of_the_guide_has_the_options_of_the_configured_probes(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(TABLE, "utf-8")
    done = with_module(tmp_path, "tables", COUNTS, "tables", "--config", str(config), "--upper")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ONE\nTWO\n", "")
    config.write_text("nonesuch = 1\n", "utf-8")
    done = with_module(tmp_path, "tables", COUNTS, "tables", "--config", str(config))
    assert (done.returncode, done.stdout) == (1, "")
    assert "nonesuch: no such key" in done.stderr
    assert "Traceback" not in done.stderr


def test_its_own_error_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[probes.system]\nenabled = false\n", "utf-8")
    done = with_module(tmp_path, "tables", COUNTS, "tables", "--config", str(config))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "mlopsd: cannot list tables: no probe is enabled; enable one\n"


def test_the_help_has_it_and_a_broken_one_spoils_nothing(tmp_path: Path) -> None:
    done = with_module(tmp_path, "tables", COUNTS, "--help")
    assert "tables a command of the package of_tables;" in " ".join(done.stdout.split())
    done = with_module(tmp_path, "tables", COUNTS, "tables", "--help")
    assert "list the enabled probes" in done.stdout
    done = with_module(tmp_path, "broken", BROKEN, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "broken a command of the package of_broken;" in " ".join(done.stdout.split())
    assert "run the daemon" in done.stdout


@pytest.mark.parametrize(
    ("code", "part"),
    [
        (
            BROKEN,
            "broken_module fails when imported (RuntimeError: out of order); repair or upgrade of_broken",
        ),
        ("import nonesuch_package\n", "No module named 'nonesuch_package'"),
        ("purpose = 'do'\n", "broken_module has no add_arguments; see docs/extending/commands.md"),
    ],
)
def test_one_that_cannot_be_loaded_is_one_line_with_the_package(tmp_path: Path, code: str, part: str) -> None:
    done = with_module(tmp_path, "broken", code, "broken")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlopsd: cannot run broken: ")
    assert part in line


@pytest.mark.parametrize("own", [*COMMANDS, "digest"])
def test_nobody_takes_a_command_of_mlopsd_away(tmp_path: Path, own: str) -> None:
    done = with_module(tmp_path, "thief", BROKEN, own, "--help", command=own)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: mlopsd {own} " in done.stdout


def test_two_packages_with_one_command_are_named(tmp_path: Path) -> None:
    for name in ("first", "second"):
        env = installed(tmp_path, {"tables": f"{name}_module"}, tmp_path, name=name, group=GROUP)
    done = mlopsd("tables", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "mlopsd: cannot run tables: first (first_module) and second (second_module) both provide it; "
        "uninstall one of them\n"
    )
