"""Predictions beside MLflow's own server: the same bodies for the same requests, and kinder refusals."""

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio

from mlopsd.predictor import PredictionError
from mlopsd_probes.model.serving.host import ModelHost
from tests.conftest import OLDEST
from tests.model.models.saved import HERE, RecordedMetrics, host_context, kept, options, rows
from tests.running import free_port

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

LOG = logging.getLogger("mlopsd.test.host")
JSON, CSV = "application/json", "text/csv"
PATIENCE = 600.0  # eight processes import MLflow at once, beside those of another worker's tests
IRIS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
FLOWER, OTHER = [5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]
MODELS = ("iris", "bare", "scaled", "mixed", "softmax", "regression", "coded")
TABLES: dict[str, dict[str, Any]] = {
    "iris": {"features": {"petal_width": {"min": 0, "max": 5}}, "prediction": {"max_rows": 100}},
    "mixed": {"features": {"nonsense": {"min": 0}}, "prediction": {"batching": "on"}},
    "coded": {"prediction": {"batching": "on"}},
}


def csv(columns: list[str], *values: list[Any]) -> bytes:
    return "\n".join(",".join(map(str, row)) for row in [columns, *values]).encode()


def document(**parts: Any) -> bytes:
    return json.dumps(parts).encode()


def records(columns: list[str], *values: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in values]


class Peer:
    """MLflow's scoring server for each of `MODELS`."""

    def __init__(self, saved: Path) -> None:
        self.port = free_port()
        folders = [str(saved / name) for name in MODELS]
        command = [sys.executable, str(HERE / "peer.py"), str(self.port), *folders]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    async def ask(self, model: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        url = f"http://127.0.0.1:{self.port}/{model}/invocations"
        deadline = time.monotonic() + PATIENCE
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.post(url, data=body, headers={"Content-Type": content_type}) as answer:
                        return answer.status, await answer.read()
                except aiohttp.ClientConnectionError:
                    assert self._process.poll() is None
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.1)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    subprocess.run([sys.executable, HERE / "make.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def peer(saved: Path) -> Iterator[Peer]:
    peer = Peer(saved)
    yield peer
    peer.end()


class Hosts(dict[str, ModelHost]):
    """A host for each of `MODELS`, and their reports."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics = RecordedMetrics()

    async def load(self, name: str, model: Path, scratch: Path, **table: Any) -> None:
        self[name] = await ModelHost.load(
            kept(model),
            options(load_timeout=PATIENCE, **table),
            host_context(scratch, self.metrics),
            hidden=[scratch],
        )

    async def prove(self) -> None:
        """One after the other: rows are tried together for a second of a clock, and then never again."""
        for host in self.values():
            assert (await host.canary(PATIENCE)).passed


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hosts(saved: Path, peer: Peer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hosts]:
    hosts, scratch = Hosts(), tmp_path_factory.mktemp("scratch")
    async with asyncio.TaskGroup() as tasks:
        for name in MODELS:
            tasks.create_task(hosts.load(name, saved / name, scratch, **TABLES.get(name, {})))
    await peer.ask("iris", rows(IRIS, FLOWER), JSON)  # it is up, and leaves the cores to those that are tried
    await hosts.prove()
    yield hosts
    await asyncio.gather(*(host.end(1) for host in hosts.values()))
    assert not list(scratch.iterdir())


SAME = {
    "split": ("iris", JSON, rows(IRIS, FLOWER, OTHER)),
    "split with an index": (
        "iris",
        JSON,
        document(dataframe_split={"index": [3, 7], "columns": IRIS, "data": [FLOWER, OTHER]}),
    ),
    "records": ("iris", JSON, document(dataframe_records=records(IRIS, FLOWER, OTHER))),
    "instances": ("iris", JSON, document(instances=records(IRIS, FLOWER, OTHER))),
    "inputs": ("iris", JSON, document(inputs={name: [1.0, 2.0] for name in IRIS})),
    "inputs as records": ("iris", JSON, document(inputs=records(IRIS, FLOWER, OTHER))),
    "csv": ("iris", CSV, csv(IRIS, FLOWER, OTHER)),
    "csv with its charset": ("iris", "text/csv; charset=UTF-8", csv(IRIS, FLOWER)),
    "json with its charset": ("iris", "application/json; charset=utf-8", rows(IRIS, FLOWER)),
    "whole numbers for doubles": ("iris", JSON, rows(IRIS, [5, 3, 1, 0])),
    "another order": ("iris", JSON, rows(IRIS[::-1], FLOWER[::-1])),
    "one column more": ("iris", JSON, rows([*IRIS, "colour"], [*FLOWER, "blue"])),
    "one key more": ("iris", JSON, document(dataframe_records=records(IRIS, FLOWER), more=1)),
    "no signature": ("bare", JSON, rows(IRIS, FLOWER, OTHER)),
    "no signature and an array": ("bare", JSON, document(inputs=[FLOWER, OTHER])),
    "no signature and instances": ("bare", JSON, document(instances=[FLOWER, OTHER])),
    "params": ("scaled", JSON, document(dataframe_records=[{"x": 2.5}], params={"factor": 4})),
    "no params": ("scaled", JSON, document(dataframe_records=[{"x": 2.5}])),
    "params that nobody knows": ("scaled", JSON, document(instances=[{"x": 2.5}], params={"other": 1})),
    "nan": ("scaled", JSON, b'{"dataframe_records": [{"x": NaN}, {"x": null}, {"x": Infinity}]}'),
    "one named input": ("scaled", JSON, document(inputs=[1.0, 2.0])),
    "every type": ("mixed", JSON, rows(["amount", "count", "is_new", "name"], [1.5, 2, True, "é"])),
    "an optional column": ("mixed", JSON, rows(["amount", "count", "is_new"], [1, 2, False])),
    "a missing text": ("mixed", JSON, rows(["amount", "count", "is_new", "name"], [1, 2, True, None])),
    "a tensor": ("softmax", JSON, document(inputs=[[1.0, 2.0, 3.0], [0.1, 0.1, 0.1]])),
    "a tensor as instances": ("softmax", JSON, document(instances=[[1.0, 2.0, 3.0]])),
    "regression": ("regression", JSON, rows(IRIS, FLOWER, OTHER)),
    "own modules": ("coded", JSON, document(dataframe_records=[{"x": 1.0}])),
}


@pytest.mark.parametrize("name", SAME)
async def test_the_answer_is_the_peers_byte_for_byte(hosts: Hosts, peer: Peer, name: str) -> None:
    model, content_type, body = SAME[name]

    answer = await hosts[model].predict(body, content_type, PATIENCE)

    assert (200, answer.body) == await peer.ask(model, body, content_type)
    assert answer.content_type == "application/json"


SECRET = 31337.25
REFUSED = {
    "no json": (
        JSON,
        b'{"dataframe_split": 31337.25',
        400,
        "no JSON: Expecting ',' delimiter at line 1 column",
    ),
    "no utf-8": (JSON, b"\xff\xff31337.25", 400, "no JSON: UnicodeDecodeError"),
    "too deep": (JSON, b"[" * 100_000, 400, "no JSON: RecursionError"),
    "too many digits": (JSON, b'{"inputs": %s}' % (b"31337" * 1000), 400, "the body is no JSON: ValueError"),
    "beyond every float": (
        JSON,
        rows(IRIS, [1, 1, 1, 31337 * 10**400]),
        400,
        "must be from 0 to 5",
    ),
    "columns that are none": (
        JSON,
        document(dataframe_split={"columns": SECRET, "data": [FLOWER]}),
        400,
        "columns in dataframe_split must be a list",
    ),
    "no object": (JSON, b"[31337.25]", 400, "must be a JSON object with one of dataframe_split, "),
    "no format": (JSON, document(data=[SECRET]), 400, "exactly one of dataframe_split, "),
    "two formats": (JSON, document(inputs=[SECRET], instances=[]), 400, "it has instances and inputs"),
    "no data": (JSON, document(dataframe_split={"columns": IRIS}), 400, "an object with data"),
    "no rows": (JSON, document(dataframe_split={"data": SECRET}), 400, "a list of rows, each a list"),
    "ragged": (
        JSON,
        rows(IRIS, FLOWER, [SECRET] * 5),
        400,
        "row 2 of dataframe_split has 5 values for 4 columns",
    ),
    "no records": (JSON, document(dataframe_records=SECRET), 400, "a list of objects, one a row"),
    "a column short": (
        JSON,
        rows(IRIS[1:], [SECRET] * 3),
        400,
        "column 'sepal_length' is missing; the model takes",
    ),
    "columns short": (JSON, rows(IRIS[2:], [SECRET] * 2), 400, "'sepal_length', 'sepal_width' are missing"),
    "records short": (
        JSON,
        document(dataframe_records=records(IRIS[1:], FLOWER[1:])),
        400,
        "'sepal_length' is",
    ),
    "instances short": (
        JSON,
        document(instances=records(IRIS[1:], FLOWER[1:])),
        400,
        "'sepal_length' is missing",
    ),
    "inputs short": (JSON, document(inputs={"sepal_width": [SECRET]}), 400, "'sepal_length', 'petal_length'"),
    "text": (JSON, rows(IRIS, [5.1, "secret31337.25", 1, 1]), 400, "'sepal_width' is not of the type double"),
    "text in records": (
        JSON,
        document(dataframe_records=records(IRIS, [1, 1, 1, "secret31337.25"])),
        400,
        "column 'petal_width' is not of the type double that the model takes",
    ),
    "text in instances": (
        JSON,
        document(instances=records(IRIS, ["31337.25x", 1, 1, 1])),
        400,
        "'sepal_length'",
    ),
    "text in inputs": (JSON, document(inputs={name: ["31337.25x"] for name in IRIS}), 400, "'sepal_length'"),
    "text in csv": (
        CSV,
        csv(IRIS, [1, "31337.25x", 2, 3]),
        400,
        "column 'sepal_width' is not of the type double",
    ),
    "csv short": (CSV, csv(IRIS[1:], [31337.25, 2, 3]), 400, "column 'sepal_length' is missing"),
    "empty csv": (CSV, b"", 400, "does not fit"),
    "no utf-8 in csv": (CSV, b"\xff31337.25", 400, "not UTF-8"),
    "out of range": (
        JSON,
        rows(IRIS, FLOWER, [1, 1, 1, SECRET]),
        400,
        "'petal_width' in row 2 of 2 must be from 0",
    ),
    "csv out of range": (
        CSV,
        csv(IRIS, [1, 1, 1, -1]),
        400,
        "'petal_width' in row 1 of 1 must be from 0 to 5",
    ),
    "inputs out of range": (
        JSON,
        document(inputs={name: [SECRET] for name in IRIS}),
        400,
        "must be from 0 to 5",
    ),
    "nan in a range": (
        JSON,
        b'{"inputs": {%s}}' % b",".join(b'"%s": [NaN]' % name.encode() for name in IRIS),
        400,
        "0",
    ),
    "many rows": (JSON, rows(IRIS, *[FLOWER] * 101), 413, "101 rows in one request; at most 100"),
    "many records": (JSON, document(instances=records(IRIS, *[FLOWER] * 101)), 413, "101 rows"),
    "many inputs": (JSON, document(inputs={name: [SECRET] * 101 for name in IRIS}), 413, "101 rows"),
    "many lines": (CSV, csv(IRIS, *[FLOWER] * 101), 413, "101 rows"),
    "another type": ("text/plain", b"31337.25", 415, "must be one of application/json, text/csv"),
    "no type": ("", b"31337.25", 415, "must be one of"),
    "another charset": ("text/csv; charset=latin-1", b"", 415, "charset must be utf-8"),
    "a parameter": ("text/csv; header=no", b"", 415, "no parameter but charset"),
    "nan in a model that takes none": (
        JSON,
        rows(IRIS, [None, 1, 1, 1]),
        500,
        "the model failed: ValueError",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_names_the_field_and_quotes_no_value(hosts: Hosts, name: str) -> None:
    content_type, body, code, detail = REFUSED[name]

    with pytest.raises(PredictionError) as refusal:
        await hosts["iris"].predict(body, content_type, PATIENCE)

    assert refusal.value.code == code
    assert detail in refusal.value.detail
    assert "31337" not in refusal.value.detail


@pytest.mark.parametrize(
    ("model", "body", "detail"),
    [
        (
            "scaled",
            document(dataframe_records=[{"x": 1}], params={"factor": "s31337"}),
            "param 'factor' is not of",
        ),
        ("scaled", document(dataframe_records=[{"x": 1}], params=[31337]), "params must be an object"),
        ("softmax", document(inputs=[[31337.0]]), "the model's signature: float64 of shape (-1, 3)"),
        ("softmax", rows(["a"], [31337.0]), "the model's signature: float64 of shape (-1, 3)"),
        (
            "mixed",
            rows(["amount", "count", "is_new"], [1.0, "s31337", True]),
            "'count' is not of the type long",
        ),
    ],
)
async def test_what_does_not_fit_is_the_callers_mistake(
    hosts: Hosts, model: str, body: bytes, detail: str
) -> None:
    with pytest.raises(PredictionError) as refusal:
        await hosts[model].predict(body, JSON, PATIENCE)

    assert refusal.value.code == 400
    assert detail in refusal.value.detail
    assert "31337" not in refusal.value.detail


NO_SIGNATURE = "the model has no signature, and failed for this input: "


@pytest.mark.parametrize(
    "body",
    [
        rows(IRIS, ["s31337", 1, 1, 1]),
        rows(IRIS, [None, 1, 1, 1]),
        rows(IRIS[:3], [1, 1, 1]),
        document(inputs=[[1, 2]]),
        document(instances=[{"a": "s31337"}]),
        document(inputs="s31337"),
    ],
)
async def test_without_a_signature_the_callers_mistake_is_one_as_for_mlflow(
    hosts: Hosts, peer: Peer, body: bytes
) -> None:
    code, _ = await peer.ask("bare", body, JSON)

    with pytest.raises(PredictionError) as refusal:
        await hosts["bare"].predict(body, JSON, PATIENCE)

    assert (refusal.value.code, code) == (400, 400)
    assert refusal.value.detail.startswith(NO_SIGNATURE)
    assert "31337" not in refusal.value.detail


async def test_a_models_failure_quotes_no_input_in_the_log(
    hosts: Hosts, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(PredictionError, match="for this input: ValueError"):
        await hosts["bare"].predict(rows(IRIS, ["s31337", 1, 1, 1]), JSON, PATIENCE)
    printed = [getattr(record, "line", "") for record in caplog.records]

    assert "31337" not in "".join(printed)


async def test_requests_that_wait_are_predicted_together_and_answered_as_each_alone(hosts: Hosts) -> None:
    alike = [("iris", rows(IRIS, [4.0 + number / 8, 3, 0.5 + number / 10, 0.2])) for number in range(40)]
    others = [
        ("iris", rows(IRIS[::-1], OTHER[::-1])),
        ("iris", document(instances=records(IRIS, OTHER))),
        ("iris", document(dataframe_records=records(IRIS, OTHER, FLOWER))),
        ("iris", rows(IRIS, [None, 1, 1, 1])),
        ("iris", rows(IRIS, [1, 1, 1, 99])),
        ("iris", rows(IRIS, ["6", 1, 1, 1])),
        ("mixed", rows(["amount", "count", "is_new", "name"], [1.5, 2, True, "a"])),
        ("mixed", rows(["amount", "count", "is_new", "name"], [1, 2**53 + 1, True, "b"])),
        ("mixed", rows(["amount", "count", "is_new", "name"], [0.5, 3, False, None])),
        ("mixed", rows(["amount", "count", "is_new"], [0.5, 3, False])),
        (
            "mixed",
            document(
                dataframe_records=[{"amount": 1, "count": 1, "is_new": True}, {"amount": 1, "count": 1}]
            ),
        ),
        ("coded", document(dataframe_records=[{"x": 1}])),
        ("coded", document(dataframe_records=[{"x": 1.5}, {"x": 2}])),
    ]
    asked = [*alike, *others, *alike[::-1], *others]
    alone = [await _answer(hosts[model], body) for model, body in asked]
    hosts.metrics.observed.clear()

    together = [asyncio.create_task(_answer(hosts[model], body)) for model, body in asked]
    processes = [psutil.Process(hosts[model].pid) for model in ("iris", "mixed", "coded")]
    for process in processes:
        process.suspend()
    while sum(hosts[name].in_flight for name in ("iris", "mixed", "coded")) < len(asked):
        await asyncio.sleep(0.01)  # until all are sent
    for process in processes:
        process.resume()

    assert list(await asyncio.gather(*together)) == alone
    observed = hosts.metrics.observed
    carrying = [observation for observation in observed if observation.classes or observation.counts]
    assert len(carrying) < len(observed) / 3  # of those predicted together one tells the values of all
    assert sum(sum(observation.counts) for observation in observed) > len(alike)


async def test_exact_means_the_last_digit(saved: Path, tmp_path: Path) -> None:
    exact = Hosts()
    await exact.load("regression", saved / "regression", tmp_path, prediction={"batching": "exact"})
    await exact.prove()
    assert exact["regression"].facts["batching"] == (
        "off: it answers 2 rows at once otherwise than each alone, in the last digits"
    )
    await exact["regression"].kill()


async def test_numbers_that_were_predicted_together_are_the_same_to_a_millionth(hosts: Hosts) -> None:
    host = hosts["regression"]
    bodies = [rows(IRIS, [4.0 + number / 7, 3.1, 0.5 + number / 11, 0.2]) for number in range(30)]
    alone = [json.loads(await _bytes(host, body)) for body in bodies]
    hosts.metrics.observed.clear()
    asking = [asyncio.create_task(_bytes(host, body)) for body in bodies]
    process = psutil.Process(host.pid)
    process.suspend()
    while host.in_flight < len(bodies):
        await asyncio.sleep(0.01)
    process.resume()
    together = [json.loads(body) for body in await asyncio.gather(*asking)]
    for one, other in zip(alone, together, strict=True):
        assert one["predictions"] == pytest.approx(other["predictions"], rel=1e-6)
    carrying = [observation for observation in hosts.metrics.observed if observation.counts]
    assert len(carrying) < len(bodies) / 3


async def _bytes(host: ModelHost, body: bytes) -> bytes:
    return (await host.predict(body, JSON, PATIENCE)).body


async def _answer(host: ModelHost, body: bytes) -> bytes | tuple[int, str]:
    try:
        return (await host.predict(body, JSON, PATIENCE)).body
    except PredictionError as refusal:
        return refusal.code, refusal.detail


async def test_facts_say_what_runs_and_how_well_it_is_shut_in(hosts: Hosts) -> None:
    facts = hosts["iris"].facts

    assert (facts["flavor"], facts["signature"], facts["cuda"]) == ("mlflow.sklearn", True, False)
    assert facts["isolation"] == {"network": "cut", "state": "out of reach"}
    assert facts["batching"].startswith("up to ")
    assert hosts["regression"].facts["batching"].startswith("up to ")
    assert hosts["softmax"].facts["batching"] == "off: the model's signature has no plain named columns"
    assert hosts["bare"].facts["signature"] is False
    assert hosts["mixed"].facts["unknown_features"] == ["nonsense"]
    assert hosts.metrics.phases.count("import") == hosts.metrics.phases.count("load") == len(MODELS)
    assert (await hosts["iris"].rss() or 0) > 50_000_000


@pytest.mark.parametrize(
    ("model", "source", "verified"),
    [
        ("iris", "example", True),
        ("scaled", "example", True),
        ("mixed", "synthesised", True),
        ("bare", "none", False),
    ],
)
async def test_a_canary_says_whose_input_it_was(
    hosts: Hosts, model: str, source: str, *, verified: bool
) -> None:
    canary = await hosts[model].canary(PATIENCE)

    assert (canary.passed, canary.source, canary.verified) == (True, source, verified)


async def test_the_example_is_predicted_with_its_params(hosts: Hosts) -> None:
    canary = await hosts["scaled"].canary(PATIENCE)

    assert (canary.rows, canary.minimum, canary.maximum) == (2, 3.0, 6.0)


async def test_values_are_counted_by_bucket_and_class(hosts: Hosts) -> None:
    hosts.metrics.observed.clear()
    await hosts["iris"].predict(rows(IRIS, FLOWER, OTHER), JSON, PATIENCE)
    await hosts["mixed"].predict(
        rows(["amount", "count", "is_new", "name"], [1.5, 2, True, "new"]), JSON, PATIENCE
    )

    classes, mixed = hosts.metrics.observed
    assert (classes.rows, classes.total, classes.classes) == (2, 2.0, {"0": 1, "2": 1})
    bounds = options().prediction.buckets
    assert [(bound, times) for bound, times in zip(bounds, classes.counts, strict=False) if times] == [
        (0, 1),
        (10, 1),
    ]
    assert (sum(mixed.counts), mixed.total, mixed.classes) == (1, 3.5, {"new!": 1})


async def test_one_who_stops_waiting_disturbs_nobody(hosts: Hosts) -> None:
    host = hosts["iris"]
    impatient = [asyncio.create_task(host.predict(rows(IRIS, FLOWER), JSON, PATIENCE)) for _ in range(20)]
    patient = [asyncio.create_task(host.predict(rows(IRIS, OTHER), JSON, PATIENCE)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in impatient:
        task.cancel()

    answers = await asyncio.gather(*patient)

    assert {answer.body for answer in answers} == {b'{"predictions": [2]}'}
    await host.canary(PATIENCE)
    assert host.in_flight == 0


async def test_the_daemons_side_imports_no_mlflow_pandas_or_numpy() -> None:
    check = (
        "import sys, mlopsd_probes.model.serving.host, mlopsd.process.channel;"
        "print([name for name in ('mlflow', 'pandas', 'numpy', 'sklearn') if name in sys.modules])"
    )
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", check, stdout=pipe)

    assert (await process.communicate())[0] == b"[]\n"


async def test_the_answer_is_that_of_mlflow_models_serve(hosts: Hosts, saved: Path) -> None:
    port = free_port()
    bin_ = Path(sys.executable).parent
    serve: list[str | Path] = [
        bin_ / "mlflow",
        "models",
        "serve",
        "-m",
        saved / "iris",
        "--env-manager",
        "local",
        "-p",
        str(port),
    ]
    process = psutil.Popen(
        serve, env={"PATH": f"{bin_}:/usr/bin:/bin"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession() as session:
            await _until_it_answers(session, f"http://127.0.0.1:{port}/ping")
            for model, content_type, body in SAME.values():
                if model == "iris":
                    headers = {"Content-Type": content_type}
                    async with session.post(
                        f"http://127.0.0.1:{port}/invocations", data=body, headers=headers
                    ) as answer:
                        assert (
                            await hosts["iris"].predict(body, content_type, PATIENCE)
                        ).body == await answer.read()
    finally:
        for child in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()


async def _until_it_answers(session: aiohttp.ClientSession, url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            async with session.get(url):
                return
        except aiohttp.ClientConnectionError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


@pytest.mark.needs("oldest")
async def test_another_interpreter_with_the_oldest_mlflow_is_a_host_too(
    saved: Path, hosts: Hosts, tmp_path: Path
) -> None:
    old = Hosts()
    async with asyncio.TaskGroup() as tasks:
        for name in ("iris", "coded"):
            tasks.create_task(old.load(name, saved / name, tmp_path, python=OLDEST / "bin/python"))
    try:
        await old.prove()
        assert old["iris"].facts["mlflow"] == "2.22.0"
        assert old["iris"].facts["batching"].startswith("up to ")
        for model, content_type, body in SAME.values():
            if model in old:
                assert await old[model].predict(body, content_type, PATIENCE) == await hosts[model].predict(
                    body, content_type, PATIENCE
                )
        for name, (content_type, body, code, detail) in REFUSED.items():
            if (
                code in {400, 415}
                and "range" not in detail
                and "must be from" not in detail
                and detail != "0"
            ):
                with pytest.raises(PredictionError) as refusal:
                    await old["iris"].predict(body, content_type, PATIENCE)
                assert (name, refusal.value.code, detail in refusal.value.detail) == (name, code, True)
    finally:
        await asyncio.gather(*(host.kill() for host in old.values()))
