"""Bodies of predictions that no caller would make, for the process of a real model: each gets its answer."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlopsd.predictor import PredictionError
from mlopsd_probes.model.serving.host import ModelHost
from tests.model.models.plain import COLUMNS
from tests.model.models.saved import HERE, host_context, kept, options, rows, written

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

BOUNDED = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
PATIENCE = 60.0
MOST_ROWS = 3
TYPES = {"json": "application/json", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
GOOD = rows(list(COLUMNS), [1.5, 2, True, "a"], [0.5, 3, False, "abc"])
SECRET = "31337.25"  # what stands in a body and must not come back

WRONG: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(2**63) - 1, 2**64, 2**53 + 1, -0.0, 1e308, 1e-320])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "\0", "nan", "True", "1e999", "2026-01-01", SECRET])
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    WRONG,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "amount": st.floats() | st.integers(-(2**53), 2**53),
    "count": st.integers(-(2**63), 2**63 - 1),
    "is_new": st.booleans(),
    "name": st.text(max_size=8),
}
NAMES = st.sampled_from([*COLUMNS, "amount ", "other", "", "0"])


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Any], list[list[Any]]]:
    """Columns and rows, right but for a few columns and values of them, or but for nothing."""
    columns: list[Any] = list(COLUMNS)
    values: list[list[Any]] = [
        [draw(RIGHT[name]) for name in columns] for _ in range(draw(st.integers(0, 4)))
    ]
    for _ in range(draw(st.integers(0, 2))):
        what = draw(st.sampled_from(["value", "name", "column", "twice", "row", "cut"]))
        at = draw(st.integers(0, len(columns) - 1))
        if what == "name":
            columns[at] = draw(NAMES | WRONG)
        elif what == "column":
            columns.insert(at, draw(NAMES))
            values = [[*row[:at], draw(WRONG), *row[at:]] for row in values]
        elif what == "twice":
            columns.append(columns[at])
            values = [[*row, *row[at : at + 1]] for row in values]
        elif values and what == "row":
            values[-1] = draw(st.lists(WRONG, max_size=6))
        elif values and what == "cut":
            values[-1] = values[-1][:at]
        elif values and at < len(values[-1]):
            values[-1][at] = draw(ANYTHING)
    return columns, values


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Of one of MLflow's four forms, and seldom of several or of none."""
    columns, values = draw(tables())
    names = [str(name) for name in columns]
    records = [dict(zip(names, row, strict=False)) for row in values]
    by_column = {name: [row[at] for row in values if at < len(row)] for at, name in enumerate(names)}
    split = {"columns": columns, "data": values}
    if seldom(draw):
        split[draw(st.sampled_from(["index", "dtype", "columns", "data"]))] = draw(ANYTHING)
    forms = {
        "dataframe_split": split,
        "dataframe_records": records,
        "instances": draw(st.sampled_from([records, values, by_column])),
        "inputs": draw(st.sampled_from([by_column, values, records])),
    }
    key = st.sampled_from(list(forms))
    keys = draw(st.lists(key, max_size=3)) if seldom(draw) else [draw(key)]
    found = {key: draw(ANYTHING) if seldom(draw) else forms[key] for key in keys}
    if seldom(draw):
        found["params"] = draw(ANYTHING)
    return found


@st.composite
def csv(draw: st.DrawFn) -> bytes:
    """Lines with as many values as there happen to be."""
    columns, values = draw(tables())
    return "\n".join(",".join(map(str, row)) for row in (columns, *values)).encode("utf-8", "surrogatepass")


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    """A content type and a body that is of it, nearly is, or is of no type at all."""
    kind = draw(st.sampled_from(["json"] * 6 + ["csv"] * 2 + ["parquet"]))
    if kind == "json":
        written = json.dumps(
            draw(ANYTHING) if seldom(draw) else draw(documents()), ensure_ascii=draw(st.booleans())
        )
        body = written.encode("utf-16" if seldom(draw) else "utf-8", "surrogatepass")
    else:
        body = draw(csv()) if kind == "csv" else b"PAR1" + draw(st.binary(max_size=60)) + b"PAR1"
    if seldom(draw):
        at = draw(st.integers(0, len(body)))
        changed = {
            "cut": body[:at],
            "spliced": body[:at] + draw(st.binary(max_size=4)) + body[at:],
            "twice": body[:-1] + b"," + body[1:],  # each key of an object, which JSON leaves open
        }
        body = changed[draw(st.sampled_from(list(changed)))]
    return TYPES[draw(st.sampled_from(list(TYPES))) if seldom(draw) else kind], body


def seldom(draw: st.DrawFn) -> bool:
    return draw(st.integers(0, 7)) == 7


def deep(depth: int) -> bytes:
    return b'{"inputs": ' + b"[" * depth + b"1" + b"]" * depth + b"}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ModelHost]:
    folder = tmp_path_factory.mktemp("plain")
    model = kept(written(folder / "model", HERE / "plain.py", inputs=COLUMNS))
    table = options(prediction={"max_rows": MOST_ROWS}, features={"amount": {"min": -1e300}})
    host = await ModelHost.load(
        model,
        table,
        host_context(folder / "scratch"),
        hidden=[],
    )
    assert (await host.canary(PATIENCE)).passed
    pid = host.pid
    yield host
    assert (host.pid, host.alive, host.in_flight) == (pid, True, 0)
    await host.kill()


@BOUNDED
@given(bodies())
@example((TYPES["json"], deep(100)))
@example((TYPES["json"], deep(900)))
@example((TYPES["json"], deep(100_000)))
@example((TYPES["json"], rows(list(COLUMNS), *[[1.7e308, 1, True, "a"]] * 2)))  # whose sum is no float
async def test_whatever_a_caller_sends_is_answered_or_refused_and_never_the_models_failure(
    host: ModelHost, sent: tuple[str, bytes]
) -> None:
    """The model fails at nothing that its signature allows: a 500 would blame it for the caller's mistake."""
    content_type, body = sent
    try:
        answer = await host.predict(body, content_type, PATIENCE)
    except PredictionError as refusal:
        assert refusal.code in (400, 413, 415), refusal.detail
        assert refusal.detail
        assert "Traceback" not in refusal.detail
        assert SECRET not in refusal.detail
        assert len(refusal.detail) < 2000
        assert refusal.detail.isprintable()
    else:
        assert isinstance(json.loads(answer.body)["predictions"], list)
    after = await host.predict(GOOD, TYPES["json"], PATIENCE)
    assert json.loads(after.body) == {"predictions": [3.5, 3.0]}
