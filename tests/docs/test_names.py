"""What the documents name is there: metrics, keys, commands with their options, paths of the API, files."""

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from mlopsd.cli import available, load_command
from mlopsd.config.schema import ProbeTable, Settings
from tests.alerts.metrics import PLUGINS, exposed
from tests.docs.test_docs import ROOT, documents
from tests.web.test_description import routes

README = (ROOT / "README.md").read_text("utf-8")
CONFIGURATION = (ROOT / "config.toml").read_text("utf-8")
DEPLOYED = [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
PACKAGES = {
    "mlopsd_probe_neighbours",
    "mlopsd_probe_spool",
    "mlopsd_probe_SOMETHING",
}  # of strangers, and no metrics
PAGES = pytest.mark.parametrize("page", documents(), ids=lambda path: path.name)


@pytest.mark.parametrize("page", [*documents(), *DEPLOYED], ids=lambda path: path.name)
def test_every_metric_is_one_that_there_is(page: Path) -> None:
    known = set(exposed())
    beginnings = {name.split("_")[1] for name in known if name.startswith("mlopsd_")}
    named = set(re.findall(rf"\bmlopsd_(?:{'|'.join(beginnings)})_\w*[a-z]\b(?!…)", page.read_text("utf-8")))
    assert named - PACKAGES - known == set()


def models() -> dict[str, type[BaseModel]]:
    """The model of each table, by its name in brackets."""
    found: dict[str, type[BaseModel]] = {"": Settings}
    for name, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found[name] = info.annotation
    found |= {f"probes.{name}": probe.Options for name, probe in PLUGINS.items()}
    for name, info in found["probes.model"].model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found[f"probes.model.{name}"] = info.annotation
    return found


@PAGES
def test_every_key_is_one_that_there_is(page: Path) -> None:
    known = models()
    for table, key in re.findall(r"`\[([a-z.]+)\] ([a-z_]+)", page.read_text("utf-8")):
        keys = set(known[table].model_fields) | (set(ProbeTable.model_fields) if "probes" in table else set())
        assert key in keys, f"[{table}] {key}"


def options(command: str) -> set[str]:
    parser = ArgumentParser()
    load_command(command).add_arguments(parser)
    return {"--help", *re.findall(r"--[a-z][a-z-]*", parser.format_usage())}


def usages(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of ``mlopsd`` in code, and the options that follow it there."""
    for code in re.findall(r"`([^`\n]+)`|^((?:\S*/)?mlopsd .*)$", text, re.MULTILINE):
        for command, rest in re.findall(r"(?:^|[\s/])mlopsd ([a-z]+)\b([^#|;`]*)", "".join(code)):
            yield command, re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)


@PAGES
def test_every_command_and_option_is_one_that_there_is(page: Path) -> None:
    for command, named in usages(page.read_text("utf-8")):
        assert command in available(), command
        assert set(named) <= options(command), command


def test_the_readme_has_every_command() -> None:
    rows = re.findall(r"^\| `mlopsd ([a-z]+)", README, re.MULTILINE)
    assert sorted(rows) == sorted(available())


@PAGES
def test_every_path_of_the_api_is_one_that_there_is(page: Path) -> None:
    text = page.read_text("utf-8")
    own = re.findall(r'Route\(\s*"[A-Z]+",\s*"(/[^"]+)"', text)  # of the probe that the page writes
    paths = [*(route.path for route in routes()), *(f"/probes/{{probe}}{path}" for path in own)]
    patterns = [re.sub(r"\{[^}]+\}", "[^/]+", path) + "/?" for path in paths]
    asked = re.findall(r"(?:localhost|127\.0\.0\.1|HOST):9178(/[^\s`'\"?)]*)", text)
    asked += re.findall(r"`(?:GET|POST) (/[^\s`?]*)", text)
    for path in asked:
        assert any(re.fullmatch(pattern, path) for pattern in patterns), path


@PAGES
def test_every_file_of_the_repository_is_there(page: Path) -> None:
    named = re.findall(
        r"`((?:bench|chaos|deploy|docs|mlopsd|probes|tests)/[\w./-]+)`", page.read_text("utf-8")
    )
    in_the_wheel = {"mlopsd/data/"}
    assert [path for path in named if path not in in_the_wheel and not (ROOT / path).exists()] == []


def test_the_command_line_says_of_debug_mode_what_the_configuration_says() -> None:
    (meaning,) = re.findall(r"^# (Development mode: .*)\.\n#debug =", CONFIGURATION, re.MULTILINE)
    parser = ArgumentParser()
    load_command("run").add_arguments(parser)
    (debug,) = [action.help for action in parser._actions if action.dest == "debug"]
    assert debug == f"{meaning[:1].lower()}{meaning[1:]}"
