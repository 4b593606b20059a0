"""A state of the model as a reading: the findings an operator acts on, the facts, the samples."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from mlopsd.format import format_age
from mlopsd.predictor import RegisteredVersion, RejectedVersion, VersionFacts
from mlopsd.probe import Advice, Finding, Reading, Sample, Status
from mlopsd_probes.causes import cause_of
from mlopsd_probes.model.metrics import DESIRED, DRIFT_SINCE, INFO, MEMORY, SERVED
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.progress import moment_text
from mlopsd_probes.model.rollout.rejections import Rejection
from mlopsd_probes.model.rollout.status import RolloutStatus
from mlopsd_probes.model.serving.canary import CanaryKind
from mlopsd_probes.model.serving.liveness import Backlog
from mlopsd_probes.registry.registries import ANSWERS

CURED_BY_A_RESTART = frozenset({"gpu"})  # a CUDA error stays with a process until that ends
REJECTED = {"thresholds": "thresholds", "canary": "canary", "load": "load", "fetch": "cache"}  # by step


def report(state: RolloutStatus, options: ModelOptions) -> Reading:
    """What *state* means; where all is well its summary names the version."""
    findings = [
        *_serving(state),
        *_canary(state, options),
        *_drift(state),
        *_registry(state, options),
        *_fallback(state, options),
        *_thresholds(state, options),
        *_features(state),
        *_batching(state, options),
        *_rejected(state),
        *_cache(state, options),
    ]
    is_well = all(finding.status == Status.HEALTHY for finding in findings)
    return Reading(
        summary=findings[0].summary if is_well else "",
        findings=findings,
        samples=list(_samples(state, options)),
        facts=_facts(state, options),
    )


def _serving(state: RolloutStatus) -> Iterator[Finding]:
    if (serving := state.serving) is not None:
        version = serving.kept.version
        said = f"version {version.number} ({version.candidate}) answers"
        if serving.is_outdated:
            yield Finding("serving", Status.DEGRADED, said + _outdated_text(state), advice=Advice.WATCH)
        else:
            yield Finding("serving", Status.HEALTHY, said)
    elif state.lost is not None:
        doing = f"; {state.progress.sentence()}" if state.progress else "; it is tried again by itself"
        yield Finding("serving", Status.UNHEALTHY, state.lost + doing, advice=state.lost_advice)
    elif state.progress is not None:
        said = f"no version serves yet: {state.progress.sentence()}"
        yield Finding("serving", Status.UNKNOWN, said, advice=Advice.WATCH)
    elif state.desired is not None:
        yield Finding("serving", Status.UNHEALTHY, "no version serves", advice=_advice_without_version(state))
    elif state.reached_at is None and not state.complaints:
        said = "no version serves yet: no registry has answered since the start"
        yield Finding("serving", Status.UNKNOWN, said, advice=Advice.WATCH)
    else:
        said = "no version serves, and no registry names one"
        yield Finding("serving", Status.UNHEALTHY, said, advice=_advice_of_registries(state))


def _advice_without_version(state: RolloutStatus) -> Advice:
    """What stands in the way is to be cured, and nothing else."""
    found = [rejection.cause.advice for rejection in state.refusals]
    found += [Advice.FREE_RESOURCES] if state.trouble is not None else []
    return max(found) if found else _advice_of_registries(state)


def _advice_of_registries(state: RolloutStatus) -> Advice:
    """What cures the complaints; where there is none, a registry has to name a version."""
    return max((complaint.cause.advice for complaint in state.complaints), default=Advice.FIX_REGISTRY)


def _outdated_text(state: RolloutStatus) -> str:
    why = state.progress.sentence() if state.progress else state.obstacle or "it is loaded anew by itself"
    return f", as the table said before it was changed; {why}"


def _canary(state: RolloutStatus, options: ModelOptions) -> Iterator[Finding]:
    if (serving := state.serving) is None:
        return
    canary, number = serving.canary, serving.kept.version.number
    behind = _canary_behind_text(state.canary_behind)
    if not canary.passed and not canary.was_asked:
        said = f"version {number} cannot be proven: {canary.reason}"
        yield Finding("canary", Status.UNKNOWN, said, advice=cause_of("canary", canary.kind).advice)
    elif not canary.passed:
        advice = _advice_in_service(canary.kind)
        said = f"version {number} fails its canary: {canary.reason}{behind}"
        yield Finding("canary", Status.UNHEALTHY, said, advice=advice)
    elif _is_at_a_standstill(state.backlog, options):
        said = f"version {number} {_standstill_text(state.backlog, options)}{behind}"
        yield Finding("canary", Status.DEGRADED, said, advice=Advice.WATCH)
    elif not canary.verified:
        cure = "log it with an input example or a signature, or set [probes.model.canary] input"
        said = f"version {number} is unverified: it has nothing to predict; {cure}"
        yield Finding("canary", Status.DEGRADED, said, advice=Advice.FIX_REGISTRY)
    else:
        said = f"version {number} predicted {canary.rows} rows in {canary.seconds:.3g} s{behind}"
        yield Finding("canary", Status.HEALTHY, said, observed=canary.seconds, unit="seconds")


def _is_at_a_standstill(backlog: Backlog, options: ModelOptions) -> bool:
    """Return whether callers have waited longer than any request should take: the last canary is stale."""
    patience = max(options.prediction.timeout, options.canary.timeout)
    return backlog.requests > 0 and backlog.seconds >= patience


def _standstill_text(backlog: Backlog, options: ModelOptions) -> str:
    waiting = "1 request waits" if backlog.requests == 1 else f"{backlog.requests} requests wait"
    return (
        f"has finished no prediction for {age_text(backlog.seconds)}, and {waiting}; "
        f"after {age_text(options.stall_timeout)} (stall_timeout) its process is replaced"
    )


def _advice_in_service(kind: CanaryKind) -> Advice:
    """Return what to do about a version that made its canary once: the process or this host is ill."""
    cause = cause_of("canary", kind)
    is_restart = cause.at_fault == "version" or kind in CURED_BY_A_RESTART
    return Advice.RESTART_APP if is_restart else cause.advice


def _canary_behind_text(requests: int) -> str:
    if not requests:
        return ""
    return f"; the next canary waits its turn behind {requests} {'request' if requests == 1 else 'requests'}"


def _drift(state: RolloutStatus) -> Iterator[Finding]:
    if state.serving is None or state.desired is None:
        return
    serves, wants = state.serving.kept.version.number, state.desired.number
    if state.drift_since is None:
        yield Finding("version_drift", Status.HEALTHY, f"the registry wants version {wants}, which serves")
        return
    seconds = (state.now - state.drift_since).total_seconds()
    why = f"; {state.progress.sentence()}" if state.progress else ""
    if state.obstacle is not None:
        why = f"; it is not taken up: {state.obstacle}"
    said = (
        f"the registry wants version {wants}, this host serves version {serves}, for {age_text(seconds)}{why}"
    )
    advice = Advice.FREE_RESOURCES if state.obstacle else Advice.WATCH
    yield Finding("version_drift", Status.DEGRADED, said, observed=seconds, unit="seconds", advice=advice)


def _registry(state: RolloutStatus, options: ModelOptions) -> Iterator[Finding]:
    for complaint in state.complaints:
        said = f"{complaint.registry}: {complaint.reason}"
        if complaint.asked_for != "version":
            said += "; tried again by itself, or by a reload"
        elif state.reached_at is not None and complaint.kind not in ANSWERS:
            said += f"; last answered {age_text((state.now - state.reached_at).total_seconds())} ago"
        advice = complaint.cause.advice
        yield Finding("registry", Status.DEGRADED, said, subject=complaint.registry, advice=advice)
    if not state.complaints and state.reached_at is not None:
        uri = options.registries[0].label
        yield Finding("registry", Status.HEALTHY, f"{uri} answers", subject=uri)


def _fallback(state: RolloutStatus, options: ModelOptions) -> Iterator[Finding]:
    first = options.candidates[0]
    if (held := state.held_back) is not None and state.serving is not None:
        serves = state.serving.kept.version
        said = (
            f"{first} of {options.registries[0].label} leads nowhere; {held.candidate} of {held.registry} "
            f"names version {held.number}, and proven version {serves.number} stays"
        )
        yield Finding("fallback", Status.DEGRADED, said, advice=Advice.FIX_REGISTRY)
    elif state.serving is not None and state.serving.kept.version.is_fallback:
        version = state.serving.kept.version
        said = (
            f"version {version.number} was named by {version.candidate} of {version.registry}, not by {first}"
        )
        yield Finding("fallback", Status.DEGRADED, said, advice=Advice.FIX_REGISTRY)


def _thresholds(state: RolloutStatus, options: ModelOptions) -> Iterator[Finding]:
    if not options.thresholds or state.serving is None:
        return
    number, judgement = state.serving.kept.version.number, state.judgement
    if judgement is None:
        said = f"version {number} serves, and could not be held against the thresholds since the start"
        yield Finding("thresholds", Status.DEGRADED, said, advice=Advice.WATCH)
    elif judgement.failed:
        said = f"version {number} serves on, but it would be rejected: {'; '.join(judgement.failed)}"
        yield Finding("thresholds", Status.DEGRADED, said, advice=Advice.FIX_REGISTRY)
    elif judgement.missing:
        said = f"thresholds for what was never logged: {', '.join(judgement.missing)}"
        yield Finding("thresholds", Status.DEGRADED, said, advice=Advice.FIX_REGISTRY)
    else:
        yield Finding("thresholds", Status.HEALTHY, "every metric is within its threshold")


def _features(state: RolloutStatus) -> Iterator[Finding]:
    if state.serving is not None and (unknown := state.serving.host.facts.get("unknown_features")):
        said = (
            f"ranges for what version {state.serving.kept.version.number} does not take: {', '.join(unknown)}"
        )
        yield Finding("features", Status.DEGRADED, said, advice=Advice.FIX_CONFIG)


def _batching(state: RolloutStatus, options: ModelOptions) -> Iterator[Finding]:
    if state.serving is None or not state.is_mismatched or options.prediction.batching == "off":
        return
    number = state.serving.kept.version.number
    said = (
        f"version {number} predicted joined requests differently from single ones; "
        'requests are no longer joined; set batching = "off"'
    )
    yield Finding("batching", Status.DEGRADED, said, advice=Advice.FIX_CONFIG)


def _rejected(state: RolloutStatus) -> Iterator[Finding]:
    for rejection in state.refusals:
        yield Finding(
            REJECTED[rejection.step],
            _rejected_status(state),
            _rejected_text(state, rejection),
            _subject(rejection),
            advice=rejection.cause.advice,
        )


def _rejected_status(state: RolloutStatus) -> Status:
    return Status.DEGRADED if state.serving is not None else Status.UNHEALTHY


def _rejected_text(state: RolloutStatus, rejection: Rejection) -> str:
    left = (rejection.until - state.now).total_seconds()
    when = f"tried again in {age_text(left)}" if left > 0 else "tried again now"
    return f"{rejection.what}: {rejection.reason}; {when}, or by a reload"


def _subject(rejection: Rejection) -> str:
    return f"version {rejection.version.number}"


def _cache(state: RolloutStatus, options: ModelOptions) -> Iterator[Finding]:
    if state.trouble is not None:
        yield Finding("cache", Status.DEGRADED, state.trouble, advice=Advice.FREE_RESOURCES)
        return
    if state.serving is None:
        return
    proven = state.serving.proven_at
    confirmed = min(filter(None, (proven, state.reached_at)), default=None)
    if state.reached_at is None:
        said = "served from disk; no registry has answered since the start"
        yield Finding("cache", Status.DEGRADED, said, advice=_advice_of_registries(state))
    elif confirmed is not None and _age(state, confirmed) > options.cache_ttl:
        age, ttl = age_text(_age(state, confirmed)), age_text(options.cache_ttl)
        said = f"last proven and confirmed by a registry {age} ago, more than cache_ttl ({ttl})"
        yield Finding("cache", Status.DEGRADED, said, advice=_advice_of_registries(state))
    else:
        yield Finding("cache", Status.HEALTHY, "proven, confirmed by a registry, and kept on disk")


def _age(state: RolloutStatus, moment: datetime) -> float:
    return (state.now - moment).total_seconds()


def _samples(state: RolloutStatus, options: ModelOptions) -> Iterator[Sample]:
    model = options.model
    if state.desired is not None:
        yield DESIRED.sample(int(state.desired.number), model=model)
    if state.drift_since is not None:
        yield DRIFT_SINCE.sample(state.drift_since.timestamp(), model=model)
    if (serving := state.serving) is None:
        return
    version = serving.kept.version
    yield SERVED.sample(int(version.number), model=model)
    yield INFO.sample(
        1,
        model=model,
        version=version.number,
        candidate=version.candidate,
        registry=version.registry,
        flavor=serving.host.facts.get("flavor", "unknown"),
    )
    if state.rss is not None:
        yield MEMORY.sample(state.rss, version=version.number)


def _facts(state: RolloutStatus, options: ModelOptions) -> dict[str, Any]:
    serving = state.serving
    facts = VersionFacts(
        model=options.model,
        desired=RegisteredVersion(**state.desired.facts()) if state.desired else None,
        served=RegisteredVersion(**serving.kept.version.facts()) if serving else None,
        drift_since=state.drift_since,
        progress=state.progress,
        rejected=tuple(
            RejectedVersion(one.version.number, one.reason, one.until, one.step, one.cause.at_fault)
            for one in state.refusals
            if one.is_refused
        ),
    ).facts()
    if serving is not None:
        host: dict[str, Any] = {"pid": serving.host.pid, "restarts": state.restarts, **serving.host.facts}
        if state.rss is not None:
            host["rss_bytes"] = state.rss
        facts["host"] = host
        facts["serving_since"] = moment_text(serving.since)
    return facts


def age_text(seconds: float) -> str:
    """*seconds* as people say it: "12 min"."""
    return format_age(seconds)
