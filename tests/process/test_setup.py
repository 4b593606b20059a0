"""The prologue of a child process, and its other copy for a model's interpreter."""

import json
import os
import subprocess
import sys

import pytest

REPORT = """
import ctypes, json, os, resource, signal, sys
sys.path[:0] = {path!r}
{prologue}
libc = ctypes.CDLL(None)
def get(option):
    value = ctypes.c_int()
    libc.prctl(option, ctypes.byref(value), 0, 0, 0)
    return value.value
print(json.dumps({{
    "dies with its parent": get(2), "adopts orphans": get(37), "dumpable": libc.prctl(3, 0, 0, 0, 0),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "ctrl-c": signal.getsignal(signal.SIGINT).name,
    "oom": int(open("/proc/self/oom_score_adj").read()),
}}))
"""
OURS = "from mlopsd.process.setup import set_up; set_up({parent}, has_secrets={secrets})"
MODELS = (
    "from mlopsd_probes.model.mlopsd_host.sandbox.enter import enter_sandbox;"
    "enter_sandbox({parent}, [], [], [], [])"
)


def state_after(prologue: str, parent: int, *, secrets: bool = False) -> str:
    code = REPORT.format(path=sys.path, prologue=prologue.format(parent=parent, secrets=secrets))
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("prologue", "secrets", "dumpable", "oom"),
    [(OURS, False, 1, 500), (OURS, True, 0, 500), (MODELS, True, 0, 1000)],
    ids=["probe", "registry", "model"],
)
def test_each_prologue_does_the_same_list_of_things(
    prologue: str, dumpable: int, oom: int, *, secrets: bool
) -> None:
    assert json.loads(state_after(prologue, os.getpid(), secrets=secrets)) == {
        "dies with its parent": 9,
        "adopts orphans": 1,
        "dumpable": dumpable,
        "core": [0, 0],
        "ctrl-c": "SIG_IGN",
        "oom": oom,
    }


@pytest.mark.parametrize("prologue", [OURS, MODELS], ids=["ours", "model"])
def test_a_process_whose_parent_has_ended_already_ends_too(prologue: str) -> None:
    assert state_after(prologue, os.getpid() + 1) == ""
