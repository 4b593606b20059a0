"""The contract of probes changes only where somebody meant to change it."""

import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest

from mlopsd.config.plugins import Plugin, PluginError
from mlopsd.probe import API_VERSION, Finding, Probe, Reading, Status
from tests.surface import CONTRACT, LIST, surface

GUIDE = Path(__file__).parents[1] / "docs/extending"
CHANGED = "the contract changed: see docs/extending/compatibility.md, then run python -m tests.surface"


class Older(Probe):
    """Was written for the version before."""

    api_version = API_VERSION - 1

    def check(self) -> Reading:
        return Reading([Finding("x", Status.HEALTHY, "x")])


class Current(Older):
    """Was written for this version."""

    api_version = API_VERSION


def test_the_public_surface_is_the_checked_in_list() -> None:
    assert surface().splitlines() == LIST.read_text("utf-8").splitlines(), CHANGED


@pytest.mark.parametrize("name", CONTRACT)
def test_a_star_imports_the_contract_and_nothing_else(name: str) -> None:
    script = f"from {name} import *; print(*sorted(set(dir()) - {{'__annotations__'}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    shown = {word for word in done.stdout.split() if not word.startswith("__")}
    assert shown == set(import_module(name).__all__)


def test_every_class_and_function_of_a_module_is_public_or_known_to_be_ours() -> None:
    ours: Mapping[str, set[str]] = {
        "mlopsd.probe": {"can_reload", "declared_routes", "has_routes", "make_probe", "type_argument"},
        "mlopsd.predictor": {"is_predictor"},
    }
    for name in CONTRACT:
        module = import_module(name)
        here = {
            member
            for member, value in vars(module).items()
            if getattr(value, "__module__", "") == name and not member.startswith("_") and callable(value)
        }
        known = {*module.__all__, *ours.get(name, ())}
        assert here <= known, f"{name}: add it to __all__, or name it with a _"


def test_a_probe_for_another_version_of_the_contract_is_refused() -> None:
    with pytest.raises(PluginError) as caught:
        Plugin("older", f"{__name__}:Older", "older 1.0").load()
    assert f"was written for version {API_VERSION - 1} of the contract of probes" in str(caught.value)
    assert f"this mlopsd has {API_VERSION}; upgrade the older of the two" in str(caught.value)
    assert Plugin("current", f"{__name__}:Current", "current 1.0").load() is Current


def test_every_module_of_the_contract_is_on_the_page_about_compatibility() -> None:
    page = (GUIDE / "compatibility.md").read_text("utf-8")
    assert [name for name in CONTRACT if f"`{name}`" not in page] == []
