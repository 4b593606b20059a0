"""The probe's page says what the code does."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from pydantic import BaseModel

from mlopsd.config.load import load
from mlopsd.config.probes import configure
from mlopsd.predictor import Progress
from mlopsd.probe import Advice, Reading, Status
from mlopsd.process import backoff
from mlopsd_probes.causes import CAUSES, OF_VERSION, REGISTRY, Step
from mlopsd_probes.model import report
from mlopsd_probes.model.options import CanaryOptions, ModelOptions, PredictionOptions, ServingOptions
from mlopsd_probes.model.probe import ModelProbe
from mlopsd_probes.model.progress import Doing
from mlopsd_probes.model.rollout import rejections, steps
from mlopsd_probes.model.rollout.plan import Observed
from mlopsd_probes.model.rollout.preconditions import BROKEN
from mlopsd_probes.model.rollout.rejections import Rejection
from mlopsd_probes.model.rollout.thresholds import Judgement
from mlopsd_probes.model.serving import launch
from mlopsd_probes.model.serving.active_model import RESULTS, ActiveVersion
from mlopsd_probes.model.serving.canary import CanaryKind
from mlopsd_probes.model.serving.liveness import Backlog, Reason
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry import environment
from mlopsd_probes.registry.options import RegistryOptions, SignatureOptions
from mlopsd_probes.registry.registries import KINDS
from mlopsd_probes.registry.version import LoggedMetric
from tests.model.world import DOWN, WELL, FakeHost, failing, version

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "probes/mlopsd_probes/model"
TEXT = (ROOT / "docs/reference/probes/model.md").read_text("utf-8")
NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
Row = tuple[str, ...]


def rows(heading: str) -> list[Row]:
    """The rows under *heading* that begin with a name or a code; cells without backticks."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line for line in section.splitlines() if re.match(r"\| (`|\d)", line)]
    cells = (re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in lines)
    return [tuple(cell.strip().replace("`", "") for cell in row) for row in cells]


def found(files: str | tuple[str, ...], pattern: str) -> set[str]:
    """Return the matches of *pattern* in the code of *files*."""
    text = "".join(
        (MODEL / file).read_text("utf-8") for file in ([files] if isinstance(files, str) else files)
    )
    return set(re.findall(pattern, text, re.MULTILINE))


def options(**keys: Any) -> ModelOptions:
    return ModelOptions(model="wine", registries=(RegistryOptions(uri="http://registry"),), **keys)


NOTHING = Observed(NOW, rss=10**8)


@pytest.fixture
async def well() -> Observed:
    """Version 1 serves, and is the one that is wanted."""
    kept = CachedVersion(version("1"), "/models/1", (), proven=True)
    fake = cast("Any", FakeHost(kept, WELL, 1))
    serving = ActiveVersion(kept, fake, NOW, WELL, NOW)
    return replace(
        NOTHING,
        desired=kept.version,
        named=kept.version,
        serving=serving,
        reached_at=NOW,
        judgement=Judgement(),
    )


def states(well: Observed) -> Iterator[Observed]:
    """Every state that makes a finding of its own."""
    assert well.serving is not None
    yield well
    yield NOTHING
    yield replace(NOTHING, desired=well.desired)
    yield replace(NOTHING, lost="version 1 is lost")
    yield replace(NOTHING, progress=Progress("load", "1", NOW))
    yield replace(well, serving=replace(well.serving, canary=failing("it predicted NaN")))
    yield replace(well, serving=replace(well.serving, canary=replace(WELL, verified=False)))
    yield replace(well, canary_behind=1)
    yield replace(well, backlog=Backlog(requests=1, seconds=60))
    yield replace(well, is_mismatched=True)
    drifted = replace(well, desired=version("2"), named=version("2"), drift_since=NOW)
    yield drifted
    yield replace(drifted, precondition=f"gpu 0 {BROKEN} it is lost")
    yield replace(drifted, precondition="1 GB of memory are available and the last load needed 2 GB")
    yield replace(well, complaints=(DOWN,))
    yield replace(well, named=version("2", candidate="Staging", rank=2))
    yield replace(well, named=replace(version("2"), registry_rank=1))
    yield replace(well, judgement=Judgement(missing=("accuracy",)))
    yield replace(well, judgement=Judgement(failed=("metric accuracy is 0.5, below 0.9",)))
    yield replace(well, judgement=None)
    yield replace(well, serving=replace(well.serving, is_outdated=True))
    misspelt = FakeHost(well.serving.kept, WELL, 1)
    misspelt.facts["unknown_features"] = ["petal lenght"]
    yield replace(well, serving=replace(well.serving, host=cast("Any", misspelt)))
    bare = FakeHost(well.serving.kept, WELL, 1)
    bare.facts["signature"] = False
    yield replace(well, serving=replace(well.serving, host=cast("Any", bare)))
    for tagged in ("f" * 64, well.serving.kept.digest):
        kept = replace(well.serving.kept, version=replace(well.serving.kept.version, tagged_digest=tagged))
        yield replace(well, serving=replace(well.serving, kept=kept))
    for fault in ("", "its signature is wrong"):
        yield replace(well, signature_fault=fault)
    yield replace(well, reached_at=None)
    yield replace(well, reached_at=NOW - timedelta(days=1))
    yield replace(well, problem="cannot keep version 2: no space left on device")
    yield from states_of_causes(well)


def states_of_causes(well: Observed) -> Iterator[Observed]:
    """Every kind of failure, while another version serves and while none does."""
    assert well.serving is not None
    for step, kind in CAUSES:
        cause = CAUSES[step, kind]
        if step == REGISTRY:
            complaints = (replace(DOWN, kind=kind),)
            yield replace(well, complaints=complaints)
            yield replace(well, complaints=complaints, reached_at=None)
            yield replace(NOTHING, complaints=complaints, desired=well.desired)
        else:
            rejection = Rejection(version("2"), cast("Step", step), "why", NOW, 600, cause)
            rejected = {rejection.version.id: rejection}
            yield replace(well, rejected=rejected)
            yield replace(NOTHING, rejected=rejected, desired=version("2"))
    for kind in get_args(CanaryKind):
        for source in ("example", "none"):
            canary = replace(failing("why"), kind=kind, source=source)
            yield replace(well, serving=replace(well.serving, canary=canary))
    for advice in (Advice.FIX_CONFIG, Advice.FREE_RESOURCES, Advice.WATCH):
        yield replace(
            NOTHING, lost="version 1, which served before, does not start (why)", lost_advice=advice
        )


def readings(well: Observed) -> list[Reading]:
    table = options(thresholds={"accuracy": {"min": 0.8}})
    accepting = table.model_copy(update={"on_no_signature": "accept"})
    tagged = table.model_copy(update={"digest_tag": "mlopsd.sha256"})
    signed = table.model_copy(update={"signature": SignatureOptions(public_key=Path("/signer.pub"))})
    each_table = (table, accepting, tagged, signed)
    return [report.report(state, each) for state in states(well) for each in each_table]


async def test_the_page_has_every_finding_with_its_statuses_and_advice(well: Observed) -> None:
    reported = {
        (name, status, advice)
        for name, several, _, _, advised in rows("Findings")
        for status in several.split()
        for advice in advised.split()
    }
    made = {
        (finding.name, str(finding.status), str(finding.advice))
        for reading in readings(well)
        for finding in reading.findings
    }
    assert reported == made


async def test_what_is_unhealthy_or_unknown_is_never_only_watched(well: Observed) -> None:
    severe = (Status.UNHEALTHY, Status.UNKNOWN)
    findings = [finding for reading in readings(well) for finding in reading.findings]
    assert [one for one in findings if one.status in severe and one.advice is Advice.WATCH] == []


async def test_a_summary_begins_with_what_still_serves(well: Observed) -> None:
    problems = [reading for reading in readings(well) if reading.status is Status.DEGRADED]
    assert {re.split("[;,(]", reading.summary)[0].strip() for reading in problems} <= {
        "version 1 keeps serving",
        "version 1",  # it answers by an older table
    }


def test_the_page_has_the_whole_table_of_causes() -> None:
    reported = [row[:5] for row in rows("Whose fault a failure is")]
    assert reported == [
        (step, kind, cause.at_fault, str(cause.advice), cause.retry) for (step, kind), cause in CAUSES.items()
    ]


def test_no_finding_of_the_code_is_left_out() -> None:
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(report))) if isinstance(node, ast.Call)]
    first = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Finding"]
    named = {node.value for node in first if isinstance(node, ast.Constant)}
    assert {row[0] for row in rows("Findings")} == named | set(report.REJECTED.values())


def test_each_finding_that_may_be_bad_has_a_line_for_the_night() -> None:
    assert sorted(row[0] for row in rows("At 3 a.m.")) == sorted({row[0] for row in rows("Findings")})


def test_the_keys_of_findings_are_keys() -> None:
    named = {key for row in rows("Findings") for key in row[3].split(", ") if key}
    assert named <= set(ModelOptions.model_fields)


def test_the_steps_of_a_version_are_those_of_its_progress() -> None:
    assert [row[0] for row in rows("The life of a version")] == ["resolve", *get_args(Doing)]


async def test_the_page_has_every_fact(well: Observed) -> None:
    rejected = {"2": Rejection(version("2"), "canary", "why", NOW, 600, OF_VERSION)}
    progress = Progress("fetch", "2", NOW, 1, 2)
    judgement = Judgement(judged={"accuracy": LoggedMetric(0.9, "run 1", NOW)})
    full = replace(
        well, named=version("3"), drift_since=NOW, rejected=rejected, progress=progress, judgement=judgement
    )
    facts = report.report(full, options()).facts
    reported = {row[0]: row[1] for row in rows("Facts")}
    of_host = set(re.findall(r'^ +"(\w+)": |facts\["(\w+)"\]', facts_of_host(), re.MULTILINE))
    host_facts = {name for pair in of_host for name in pair if name} | {
        "isolation",
        "pid",
        "restarts",
        "rss_bytes",
    }
    assert set(reported) == set(facts) | host_facts
    for name, value in (("progress", facts["progress"]), ("rejected", facts["rejected"][0])):
        assert all(key in reported[name] for key in value), name
    for name, value in (("desired", facts["desired"]), ("metrics", facts["metrics"]["accuracy"])):
        assert all(key in reported[name] for key in value), name


def facts_of_host() -> str:
    """The lines of the host's code that make its facts; importing it would import MLflow."""
    text = (MODEL / "mlopsd_host/serving.py").read_text("utf-8")
    return text[text.index("def _facts") : text.index("def _success")]


def test_the_page_has_every_code_of_a_prediction_with_its_result() -> None:
    assert {int(code): result for code, result, _ in rows("Predictions")} == {200: "ok", **RESULTS}


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("Keys", ModelOptions),
        ("Keys of a registry", RegistryOptions),
        ("Keys of prediction", PredictionOptions),
        ("Keys of serving", ServingOptions),
        ("Keys of canary", CanaryOptions),
        ("Keys of signature", SignatureOptions),
    ],
)
def test_the_page_has_every_key_with_its_default_its_unit_and_its_meaning(
    heading: str, model: type[BaseModel]
) -> None:
    assert rows(heading) == [
        (key, written(info.get_default(call_default_factory=True)), extra["unit"], info.description)
        for key, info in model.model_fields.items()
        if isinstance(extra := info.json_schema_extra, dict)
    ]


def written(default: object) -> str:
    """A default as the page writes it."""
    if isinstance(default, BaseModel):
        return "below"
    if default is None or default in ((), {}):
        return "none"
    if isinstance(default, tuple | bool):
        return json.dumps(default)
    if isinstance(default, int | float | str):
        return f"{default:g}" if isinstance(default, float) else str(default)
    return "required"


def test_the_page_has_every_metric_with_its_kind_labels_and_help() -> None:
    assert [row for row in rows("Metrics") if row[0].startswith("mlopsd_model_")] == [
        (f"mlopsd_model_{metric.name}", metric.kind, ", ".join(metric.labels), metric.help)
        for metric in ModelProbe.metrics
    ]


@pytest.mark.parametrize(
    ("label", "metric", "made"),
    [
        (
            "result",
            "loads_total",
            {"ok", *get_args(Step), *found("rollout/reconciler.py", r'loads\.inc\(result="(\w+)"')},
        ),
        (
            "result",
            "registry_operations_total",
            {
                "ok",
                *KINDS,
                *found(
                    tuple(
                        f"../registry/{name}.py"
                        for name in ("errors", "download", "resolver", "provenance", "signature")
                    ),
                    r'Fault\(\s*"(\w+)"',
                ),
            },
        ),
        (
            "operation",
            "registry_operations_total",
            found("../registry/registries.py", r'_(?:counted|ask)\((?:.*, )?"(\w+)"'),
        ),
        (
            "phase",
            "load_duration_seconds",
            found(("rollout/steps.py", "mlopsd_host/host.py"), r'phase(?:\(|": )"(\w+)"'),
        ),
        (
            "reason",
            "host_restarts_total",
            {*found("serving/active_model.py", r'_lose\(serving, "(\w+)"'), *get_args(Reason)},
        ),
    ],
)
def test_the_page_has_every_value_of_a_label(label: str, metric: str, made: set[str]) -> None:
    (line,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{label}` | `{metric}` |")]
    assert set(re.findall(r"`(\w+)`", line)) - {label, metric} == made


def test_the_page_has_what_the_environments_of_both_processes_keep() -> None:
    for name in (*launch.KEPT, *environment.INHERITED):
        assert f"`{name}`" in TEXT or name == "HOME", name
    for prefix in (*launch.KEPT_PREFIXES, *environment.KEPT_PREFIXES):
        assert f"`{prefix}*`" in TEXT, prefix


def test_the_page_has_the_numbers_of_the_code() -> None:
    schedule = ModelProbe.schedule
    for output in (
        f"every {schedule.interval:g} s with a timeout of {schedule.timeout:g} s",
        f"{steps.WARM_UP:g} s the first time",
        f"{number('mlopsd_host/prediction_stats.py', 'MOST_CLASSES')} of them by name",
        "`soon` waits {:g} s and doubles up to {:g} s".format(*rejections.WAITS["soon"]),
        "`later` waits {:g} s and doubles up to 5 min".format(rejections.WAITS["later"][0]),
        f"after {backoff.FIRST:g} s, doubling to {backoff.LONGEST / 60:g} min",
    ):
        assert output in TEXT, output
    assert rejections.LONGEST_FACTOR == 6, "up to six times"
    assert number("mlopsd_host/batching.py", "SIZES")[::10] == (2, 2048), "2 to 2048 rows"


def number(file: str, name: str) -> Any:
    """A constant of a module that is not imported here, since it imports MLflow."""
    (value,) = found(file, rf"^{name} = ([^#\n]+)")
    return ast.literal_eval(value.strip())


@pytest.mark.parametrize("block", re.findall(r"```toml\n(\[.*?)```", TEXT, re.DOTALL))
def test_every_table_on_the_page_is_good(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://registry")
    path = tmp_path / "config.toml"
    path.write_text(block, "utf-8")
    assert configure(load(path, {}, {}))
