"""The mistakes of authors that the kit finds: each costs one test, with a line that names the cause."""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.running import GIVE_UP

AUTHORS = Path(__file__).parent / "authors"
RULE = "test_a_check_gives_a_reading_with_evidence"
LOAD = "test_it_is_installed_under_its_name_and_loads"
MISTAKES = {
    # the mistake: the test that finds it, and its line
    "Segfaults": (RULE, r"its process was killed by SIGSEGV"),
    "Exits": ("test_two_of_it_do_not_disturb_each_other", r"its process ended with exit status 3"),
    "CrashesWhenMade": (RULE, r"its process ended with exit status 3"),
    "Hangs": ("test_two_of_it_do_not_disturb_each_other", r"no answer within 1 s"),
    "HangsInAThread": (RULE, r"no answer within 1 s"),
    "HangsWhenMade": (
        "test_it_can_be_closed_before_its_first_check",
        r"the probe does not return within \d+ s; it is at \w+/mistakes.py:\d+ in __init__",
    ),
    "Swallows": (RULE, r"no answer within 1 s; its last check was cancelled and has not ended"),
    "Blocks": (
        "test_it_does_not_block_the_event_loop",
        r"its check held the event loop for \d\.\d s at \w+/mistakes.py:\d+ in check; a coroutine must not",
    ),
    "BlocksForEver": (
        RULE,
        r"does not return within \d+ s; it is at \w+/mistakes.py:\d+ in check",
    ),
    "ReloadWithoutArguments": (LOAD, r"reload\(\) of .* cannot be called .*'dry_run'\)"),
    "ReloadAsync": (LOAD, r"reload\(\) of .* is a coroutine, but its check\(\) is not"),
    "ReloadRaises": ("test_a_reload_says_what_it_did", r"reload failed: KeyError: 'x'"),
    "ReloadNone": (
        "test_a_reload_says_what_it_did",
        r"reload returned NoneType, not a sentence; return a str",
    ),
    "CloseAsync": (LOAD, r"close\(\) of .* is a coroutine, but its check\(\) is not"),
    "RoutesAsync": (LOAD, r"routes\(\) of .* is a coroutine, which nothing awaits; write def routes"),
    "YieldsFindings": (RULE, r"the findings are of the type generator, not a list; write findings=\[…\]"),
    "OneFinding": (RULE, r"the findings are of the type Finding, not a list; write findings=\[…\]"),
    "ReturnsACoroutine": (RULE, r"check returned a coroutine, which nothing awaits; write async def check"),
    "NoName": (RULE, r"a finding has no name: 'the door is shut'; name what was judged"),
    "Endless": (RULE, r"finding 'door' has a text of 5000000 characters, more than 10000: 'x+; put details"),
    "FactsOfThemselves": (RULE, r"facts are not JSON: they contain themselves, or are nested too deep"),
    "MadeByNobody": (RULE, r"MadeByNobody\(options, context\) is of the type NoneType; remove its __new__"),
    "FactsOfObjects": (RULE, r"the reading's facts are not JSON: object in facts\.door"),
    "FactsTooLarge": (RULE, r"the reading's facts take 300012 bytes, more than 262144"),
    "NaiveTime": (RULE, r"facts\.doors\.0\.opened is a time without a zone"),
    "TellsASecret": ("test_it_tells_no_secret", r"the facts of its reading tell a secret"),
    "LongerThanItsInterval": ("test_its_schedule_makes_sense", r"timeout 10 s, interval 5 s"),
    "WorseThanItsFindings": (RULE, r"is unhealthy, but no finding is worse than healthy; add a finding or"),
    "Rambles": ("test_its_summaries_are_short", r"the summary of the reading|the summary of finding door"),
    "Prints": ("test_it_prints_nothing", r"it printed 'the door is shut'; use self.context.log"),
    "PrintsApart": ("test_it_prints_nothing", r"it printed 'the door is shut'; use self.context.log"),
    "SamplesTwice": (
        "test_no_sample_is_there_twice",
        r"2 samples of level_ratio\{\}; report each series once",
    ),
    "SamplesText": (RULE, r"metric 'level_ratio': the value '7' is not a number"),
    "ExitsInAThread": (RULE, r"SystemExit: 3"),
    "RoutesApart": ("test_its_routes_can_be_served", r"routes run in the daemon, not in a process"),
    "NotThere": (LOAD, r"cannot load probe 'NotThere': .*not there"),
}
FOR_EVER = ("HangsWhenMade", "BlocksForEver")
GOOD = ("Good", "Patient", "Looped", "Reads")
TABLES = {"TellsASecret": '{"token": "open-sesame"}'}
SUITE = """
import pytest
from mlopsd.testing import ProbeConformance

class Test{name}(ProbeConformance):
    name = "{name}"
    table = {table}
    patience = {patience}
"""
FIXTURE = """
class TestReads(ProbeConformance):
    name = "Reads"

    @pytest.fixture
    def table(self, tmp_path):
        (tmp_path / "door").write_text("it is shut")
        return {"path": str(tmp_path / "door")}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """The folder of an author with a distribution and its suite."""
    shutil.copytree(AUTHORS, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    names = [*MISTAKES, *GOOD]
    points = "".join(f"{name} = mistakes:{name}\n" for name in names)
    (tmp_path / "mlopsd_mistakes-1.0.dist-info" / "entry_points.txt").write_text(f"[mlopsd.probes]\n{points}")
    suites = [
        SUITE.format(name=name, table=TABLES.get(name, "{}"), patience=1 if name in FOR_EVER else 60)
        for name in names
        if name != "Reads"
    ]
    (tmp_path / "test_suite.py").write_text("".join([*suites, FIXTURE]))
    return tmp_path


def run_suite(folder: Path, wanted: str) -> Mapping[str, ET.Element]:
    """Return the outcome of each test of *wanted* by name, as an author's pytest reports it."""
    options = ["-q", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider", "--junitxml", "junit.xml"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"test_suite.py::Test{wanted}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=2 * GIVE_UP,
    )
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    return {case.attrib["name"]: case for case in ET.parse(folder / "junit.xml").iter("testcase")}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_kit_finds_the_mistake_and_names_the_cause(mistake: str, suite: Path) -> None:
    rule, line = MISTAKES[mistake]
    failure = run_suite(suite, f"{mistake}::{rule}")[rule].find("failure")
    assert failure is not None, "it passed"
    assert re.search(line, failure.attrib["message"]), failure.attrib["message"]


@pytest.mark.parametrize("probe", GOOD)
def test_the_kit_passes_a_probe_without_a_mistake(probe: str, suite: Path) -> None:
    cases = run_suite(suite, probe).values()
    assert len(cases) >= 18
    for case in cases:
        assert not [child.attrib["message"] for child in case if child.tag != "system-out"]


def test_a_probe_that_cannot_be_loaded_is_one_failure(suite: Path) -> None:
    cases = run_suite(suite, "NotThere").values()
    assert len([case for case in cases if case.find("failure") is not None]) == 1
    skipped = [case.find("skipped") for case in cases if case.find("failure") is None]
    assert len(skipped) >= 15
    for skip in skipped:
        assert skip is not None
        assert "see test_it_is_installed_under_its_name_and_loads" in skip.attrib["message"]
