"""The guide for authors: each of its examples runs, and its tables are those of the code."""

import json
import logging
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from mlopsd.config.schema import ProbeTable
from mlopsd.exceptions import LONGEST_MESSAGE
from mlopsd.metrics.collectors import SERIES_PER_FAMILY
from mlopsd.metrics.samples import FINDINGS_PER_PROBE, SAMPLES_PER_READING
from mlopsd.probe import (
    RESERVED_LABELS,
    Advice,
    Context,
    HttpError,
    HttpRequest,
    Instruments,
    Options,
    Probe,
    Status,
    declared_routes,
)
from mlopsd.worker.validate import LONGEST_LABEL, LONGEST_TEXT, MOST_FACTS_BYTES, MOST_FINDINGS, MOST_SAMPLES
from tests.cli.command import mlopsd
from tests.docs.test_docs import GUIDE, ROOT
from tests.documented import tables
from tests.installed import installed

FENCED = re.compile(r"^```(\w*) ?(?:file=)?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHECKED_ELSEWHERE = {"sh": "test_names.py", "text": "an outline, no code"}


@dataclass(frozen=True)
class Example:
    """A block of code on a page of the guide."""

    page: str
    language: str
    file: str
    code: str

    @property
    def module(self) -> str:
        """A name for it as a module: that of its last class or function."""
        names = re.findall(r"^(?:class|def|async def) (\w+)", self.code, re.MULTILINE)
        return f"guide_{names[-1].lower()}"

    def run(self) -> dict[str, Any]:
        names: dict[str, Any] = {"__name__": self.module}
        exec(compile(self.code, self.page, "exec"), names)
        return names


def examples(language: str = "") -> list[Example]:
    return [
        Example(page.name, found, place, code)
        for page in GUIDE
        for found, place, code in FENCED.findall(page.read_text("utf-8"))
        if language in ("", found)
    ]


PROGRAMS = [example for example in examples("python") if not example.file]
SUITES = [
    program for program in PROGRAMS if re.search(r"^(?:def test_|class Test)", program.code, re.MULTILINE)
]
NOT_CHECKED = {"guide_networkmount", "guide_disk"}  # a fragment, and a probe that needs a disk


def example(name: str) -> Example:
    (found,) = [one for one in PROGRAMS if one.module == f"guide_{name}"]
    return found


def page(name: str) -> Path:
    return ROOT / "docs/extending" / name


def test_every_block_is_of_a_language_that_a_test_reads() -> None:
    assert {one.language for one in examples()} <= {"python", "toml", "yaml", *CHECKED_ELSEWHERE}


@pytest.mark.parametrize("block", examples("toml"), ids=lambda block: block.page)
def test_every_table_is_toml(block: Example) -> None:
    assert tomllib.loads(block.code)


@pytest.mark.parametrize("block", examples("python"), ids=lambda block: f"{block.page}:{block.file}")
def test_every_program_is_python(block: Example) -> None:
    compile(block.code, block.page, "exec")


def test_mypy_accepts_every_program(tmp_path: Path) -> None:
    for program in PROGRAMS:
        (tmp_path / f"{program.module}.py").write_text(program.code, "utf-8")
    cache = ROOT / ".mypy_cache" / "guide"
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    fragments = {"guide_networkmount.py"}  # a part of the tested package, without its imports
    faults = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line for line in faults if line.partition(":")[0] not in fragments] == []


@contextmanager
def a_store(code: int) -> Iterator[str]:
    """The address of a server that answers with *code*."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/health"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def install(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The environment in which every probe that the guide writes is installed, and their entry points."""
    points: dict[str, str] = {}
    for program in PROGRAMS:
        if program.module not in NOT_CHECKED:
            (folder / f"{program.module}.py").write_text(program.code, "utf-8")
            names = re.findall(r"^class (\w+)\(Probe\b", program.code, re.MULTILINE)
            points |= {name.lower(): f"{program.module}:{name}" for name in names}
    return installed(folder, points, folder), points


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``mlopsd check`` prints of every probe that the guide writes, each in a table of its own."""
    folder = tmp_path_factory.mktemp("guide")
    environment, points = install(folder)
    with a_store(503) as url:
        own = {
            "inbox": f'path = "{folder}"\n',
            "license": 'server = "lic"\ntoken = "hidden-1"\n',
            "store": f'url = "{url}"\n',
        }
        text = "".join(f"[probes.{name}]\n{own.get(name, '')}" for name in points)
        text += f'[probes.store_in_a_process]\nuse = "store"\nisolation = "process"\nurl = "{url}"\n'
        (folder / "my.toml").write_text(text, "utf-8")
        words = ("check", "--samples", "--json", "--config", folder / "my.toml")
        done = mlopsd(*words, env=environment)
    assert done.stderr == ""
    health: dict[str, Any] = json.loads(done.stdout)["probes"]
    assert set(health) == {*points, "store_in_a_process"}
    return health


def test_every_probe_of_the_guide_checks(checked: dict[str, Any]) -> None:
    raw = {name: reading["raw_status"] for name, reading in checked.items()}
    worse = {"cards": "unhealthy", "store": "unhealthy", "store_in_a_process": "unhealthy"}
    assert raw == {**dict.fromkeys(checked, "healthy"), **worse}
    assert "/health answers 503" in checked["store_in_a_process"]["summary"]


def test_the_metrics_of_the_guide_are_as_it_says(checked: dict[str, Any]) -> None:
    mounts = {series["labels"]["mount"] for series in checked["room"]["samples"]}
    assert mounts == {"/", "/dev/shm"}
    counts = {
        series["labels"]["cause"]: series["value"]
        for series in checked["queue"]["samples"]
        if series["kind"] == "counter"
    }
    assert counts == {"refused": 0, "timeout": 1}, "each cause begins at 0"
    both = {series["name"]: series["value"] for series in checked["seats"]["samples"]}
    assert both == {"mlopsd_seats_free_seats": 7, "mlopsd_seats_seats": 7}


def test_the_secret_of_the_guide_is_masked_and_its_rule_holds(tmp_path: Path) -> None:
    names = example("license").run()
    options = names["LicenseOptions"](server="lic", token="hidden-1", patience="90s")
    assert options.patience == 90
    assert "hidden-1" not in f"{options} {options!r} {options.token}"
    with pytest.raises(ValueError, match="fail_below must be at most warn_below; lower it"):
        names["LicenseOptions"](server="lic", fail_below=9)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.module)
def test_the_tests_of_the_guide_pass(suite: Example, tmp_path: Path) -> None:
    environment, _ = install(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), f"{suite.module}.py"],
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_the_version_of_the_guide_is_accepted() -> None:
    door: type[Probe[Any]] = example("door").run()["Door"]
    assert door.api_version == 1


def test_the_lists_of_the_guide_are_those_of_the_code() -> None:
    advice = [row[0] for row in tables(page("findings.md"))["Advice"]]
    assert advice == [member.name for member in Advice]
    status = [row[0] for row in tables(page("findings.md"))["Status"]]
    assert status == [member.name for member in Status]
    (keys,) = re.findall(r"as an option: (.*)\.$", page("options.md").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", keys)) == set(ProbeTable.model_fields)
    (labels,) = re.findall(r"labels are taken: (.*)\.$", page("metrics.md").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", labels)) == set(RESERVED_LABELS)


def test_the_limits_of_the_guide_are_those_of_the_code() -> None:
    text = page("findings.md").read_text("utf-8").partition("## Limits")[2]
    limits = dict(re.findall(r"^\| ([^|]+) \| ([\d,]+(?: KiB)?)", text, re.MULTILINE)[0:])
    assert limits == {
        "findings of a reading": f"{MOST_FINDINGS:,}",
        "samples of a reading": f"{MOST_SAMPLES:,}",
        "samples of a reading in `/metrics`": f"{SAMPLES_PER_READING:,}",
        "facts": f"{MOST_FACTS_BYTES // 1024} KiB",
        "a summary, or an observed text": f"{LONGEST_TEXT:,}",
        "a finding's name, subject or unit": f"{LONGEST_LABEL:,}",
        "the message of an exception": f"{LONGEST_MESSAGE:,}",
        "series of a counter or histogram": f"{SERIES_PER_FAMILY:,}",
        "findings of a probe in `/metrics`": f"{FINDINGS_PER_PROBE:,}",
    }


@pytest.mark.needs("promtool")
def test_prometheus_accepts_the_rule_of_the_guide_and_it_fires(tmp_path: Path) -> None:
    for block in examples("yaml"):
        (tmp_path / block.file).write_text(block.code, "utf-8")
    for words in (("check", "rules", "spool.rules.yml"), ("test", "rules", "spool.test.yml")):
        done = subprocess.run(["promtool", *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


async def test_the_process_of_the_guide_answers(tmp_path: Path) -> None:
    names = example("louder").run()
    context = Context("loud", tmp_path, logging.getLogger("test"), {}, cast("Instruments", None))
    assert await names["louder"](context, b"anybody there?") == b"ANYBODY THERE?"


async def test_the_routes_of_the_guide_answer(tmp_path: Path) -> None:
    names = example("locks").run()
    context = Context("hall", tmp_path, logging.getLogger("test"), {}, cast("Instruments", None))
    show, unlock = declared_routes(names["Locks"](Options(), context))
    request = HttpRequest(parameters={"lock": "front"}, body=b"a visit")
    assert (await show.handler(request)).body == b"shut\n"
    assert (await unlock.handler(request)).code == 200
    assert (await show.handler(request)).body == b"open\n"
    with pytest.raises(HttpError, match="send a reason"):
        await unlock.handler(HttpRequest(parameters={"lock": "front"}))
