"""Real processes that join requests: no wrong answer by that, and one difference ends it for good."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest
import pytest_asyncio

from mlopsd.process.frames import BadFrame
from mlopsd_probes.model.serving.host import HostContext, ModelHost
from tests.fakes import Sink
from tests.model.models.conditional import RULES
from tests.model.models.saved import HERE, VERSION, host_context, kept, options, rows, written

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

LOG = logging.getLogger("mlopsd.test.host")
PATIENCE = 600.0  # several processes import MLflow at once, beside those of another worker's tests
TRIGGER = 3.1415926
OFF = "off: requests that were predicted together were answered otherwise than each alone"
MIXED = [0.5, 200.0, 0.25, 20.0, 30.0, TRIGGER, 0.75, 40.0] * 5


class Hosts(dict[str, ModelHost]):
    """A host for each rule and way of batching, and how often it told of a mismatch."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts: dict[str, HostContext] = {}

    async def load(self, folder: Path, rule: str, batching: str, *, mismatched: bool = False) -> None:
        name = f"{rule} {batching}{' mismatched' * mismatched}"
        context = self.contexts[name] = host_context(folder / "scratch")
        if mismatched:
            context.mismatches.add(VERSION.id)
        canary = folder / "canary.json"
        canary.write_bytes(rows(["x"], [0.5], [0.25]))
        model = written(folder / name, HERE / "conditional.py", "rule.txt", rule, {"x": "double"})
        self[name] = await ModelHost.load(
            kept(model),
            options(load_timeout=PATIENCE, prediction={"batching": batching}, canary={"input": canary}),
            context,
            hidden=[],
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hosts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hosts]:
    hosts, folder = Hosts(), tmp_path_factory.mktemp("hosts")
    async with asyncio.TaskGroup() as tasks:
        for rule in RULES:
            for batching in ("auto", "on"):
                tasks.create_task(hosts.load(folder, rule, batching))
        tasks.create_task(hosts.load(folder, "unless_trigger", "on", mismatched=True))
    for host in hosts.values():
        assert (await host.canary(PATIENCE)).passed
    yield hosts
    await asyncio.gather(*(host.kill() for host in hosts.values()))


async def predicted(host: ModelHost, value: float) -> float:
    answer = await host.predict(rows(["x"], [value]), "application/json", PATIENCE)
    (number,) = json.loads(answer.body)["predictions"]
    return float(number)


async def at_once(host: ModelHost, values: list[float]) -> list[float]:
    """Return the answers to callers that ask while the process is stopped, so that all requests wait."""
    process = psutil.Process(host.pid)
    process.suspend()
    asking = [asyncio.create_task(predicted(host, value)) for value in values]
    while host.in_flight < len(values):
        await asyncio.sleep(0.01)
    process.resume()
    return list(await asyncio.gather(*asking))


def alone(rule: str, value: float) -> float:
    (number,) = RULES[rule](np.array([value]))
    return float(number)


@pytest.mark.parametrize("rule", RULES)
async def test_by_default_a_model_that_a_library_does_not_vouch_for_is_not_joined(
    hosts: Hosts, rule: str
) -> None:
    host = hosts[f"{rule} auto"]
    assert await at_once(host, MIXED) == [alone(rule, value) for value in MIXED]
    output = host.facts["batching"]
    assert output.startswith(
        "off: only scikit-learn, XGBoost, LightGBM and CatBoost are known to predict row by"
    )
    assert output.endswith('set batching = "on" if each row is predicted by itself')


@pytest.mark.parametrize("rule", ["unit_heuristic", "one_coupon", "hidden_batch"])
async def test_with_an_operators_word_a_trial_over_the_whole_range_finds_it_out(
    hosts: Hosts, rule: str
) -> None:
    host = hosts[f"{rule} on"]
    assert "rows at once otherwise than each alone" in host.facts["batching"]
    assert await at_once(host, MIXED) == [alone(rule, value) for value in MIXED]


async def test_the_first_difference_in_real_traffic_ends_the_joining_and_nobody_gets_a_wrong_answer(
    hosts: Hosts,
) -> None:
    host = hosts["unless_trigger on"]
    assert host.facts["batching"].startswith("up to ")
    for _ in range(2):
        assert await at_once(host, MIXED) == [alone("unless_trigger", value) for value in MIXED]
    context = hosts.contexts["unless_trigger on"]
    assert context.mismatches == {VERSION.id}
    assert context.wake.is_set()
    assert cast("Sink", context.measures.batching_mismatches).reported == [(1, {})]
    assert (await host.canary(PATIENCE)).passed
    assert host.facts["batching"] == OFF
    assert host.alive


async def test_a_process_of_a_version_that_was_found_out_before_joins_nothing(hosts: Hosts) -> None:
    host = hosts["unless_trigger on mismatched"]
    assert host.facts["batching"] == OFF
    assert await at_once(host, MIXED) == [alone("unless_trigger", value) for value in MIXED]
    assert not hosts.contexts["unless_trigger on mismatched"].wake.is_set()


@pytest.mark.parametrize("notice", [{"batching": "mismatch", "more": 1}, {"batching": 1}, {}])
async def test_a_notice_of_another_form_is_nonsense(hosts: Hosts, notice: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        hosts["unless_trigger auto"]._notice(notice)
