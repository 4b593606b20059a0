"""The reading of a model: findings, facts and samples."""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from mlopsd.format import format_age, format_count, format_time
from mlopsd.predictor import RegisteredVersion, RejectedVersion, VersionFacts
from mlopsd.probe import Advice, Finding, Reading, Sample, Status
from mlopsd_probes.causes import cause_of
from mlopsd_probes.model.metrics import DESIRED, DRIFT_SINCE, INFO, MEMORY, SERVED
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.rollout.plan import Observed
from mlopsd_probes.model.rollout.preconditions import BROKEN
from mlopsd_probes.model.rollout.provenance import files_fault
from mlopsd_probes.model.rollout.rejections import Rejection
from mlopsd_probes.model.serving.canary import CanaryKind, CanaryResult
from mlopsd_probes.model.serving.liveness import Backlog
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.registries import ANSWERS
from mlopsd_probes.registry.version import LoggedMetric, Version

FIXED_BY_A_RESTART = frozenset({"gpu"})  # a CUDA error lasts as long as its process
REJECTED = {  # by step
    "thresholds": "thresholds",
    "provenance": "provenance",
    "canary": "canary",
    "load": "load",
    "fetch": "cache",
}
REJECTED_BY = {
    "thresholds": "was rejected by its thresholds",
    "canary": "was rejected by its canary",
    "load": "was rejected, since it cannot be loaded",
    "fetch": "was rejected, since its files are incomplete",
}
CONSEQUENCES = frozenset({"version_drift", "cache"})  # findings that follow from another one
MOST_FIELDS = 5  # named in one summary


def report(seen: Observed, options: ModelOptions) -> Reading:
    """Return the reading of *seen*; the summary begins with what still works."""
    findings = [
        *_serving(seen),
        *_canary(seen, options),
        *_drift(seen),
        *_registry(seen, options),
        *_fallback(seen, options),
        *_thresholds(seen, options),
        *_provenance(seen, options),
        *_signature(seen, options),
        *_features(seen),
        *_batching(seen, options),
        *_rejected(seen),
        *_cache(seen, options),
    ]
    return Reading(
        summary=_summary(findings, seen),
        findings=findings,
        samples=list(_samples(seen, options)),
        facts=_facts(seen, options),
    )


def _summary(findings: Sequence[Finding], seen: Observed) -> str:
    """Return what serves and the worst problem in one sentence; what does not serve comes first."""
    problems = [finding for finding in findings if finding.status != Status.HEALTHY]
    if not problems or findings[0] in problems:
        return findings[0].summary
    worst = max(problems, key=lambda one: (one.status, one.name not in CONSEQUENCES, one.advice))
    others = sum(one is not worst and one.name not in CONSEQUENCES for one in problems)
    more = f" (and {others} more)" if others else ""
    text = f"{worst.summary}{more}"
    if seen.serving is None or worst.status == Status.UNHEALTHY:
        return text
    keeps = f"version {seen.serving.kept.version.number} keeps serving"
    return text if text.startswith(keeps) else f"{keeps}; {text}"


def _serving(seen: Observed) -> Iterator[Finding]:
    if (serving := seen.serving) is not None:
        version = serving.kept.version
        text = f"version {version.number} ({version.candidate}) answers"
        if serving.is_outdated:
            yield Finding("serving", Status.DEGRADED, text + _outdated_text(seen), advice=Advice.WATCH)
        else:
            yield Finding("serving", Status.HEALTHY, text)
    elif seen.lost is not None:
        text = f"no version serves{_lost_for_text(seen)}: {seen.lost}; {_retry_text(seen)}"
        yield Finding("serving", Status.UNHEALTHY, text, advice=_act(seen.lost_advice))
    elif seen.progress is not None:  # mlopsd acts by itself, so nobody else has to
        text = f"no version serves yet: {seen.progress.sentence()}"
        yield Finding("serving", Status.UNKNOWN, text)
    elif seen.desired is not None:
        text = f"no version serves{_why_none_text(seen)}"
        yield Finding("serving", Status.UNHEALTHY, text, advice=_act(_advice_without_version(seen)))
    elif seen.reached_at is None and not seen.complaints:
        text = "no version serves yet: no registry has answered since the start"
        yield Finding("serving", Status.UNKNOWN, text)
    else:
        text = f"no version serves, and no registry names one{_complaint_text(seen)}"
        advice = _advice_of_registries(seen, otherwise=Advice.FIX_MODEL)
        yield Finding("serving", Status.UNHEALTHY, text, advice=_act(advice))


def _lost_for_text(seen: Observed) -> str:
    if seen.lost_since is None:
        return ""
    tries = f", after {format_count(seen.failed_starts, 'failed start')}" if seen.failed_starts else ""
    age = (seen.now - seen.lost_since).total_seconds()
    return f" for {format_age(age)}{tries}" if age >= 1 else ""


def _retry_text(seen: Observed) -> str:
    """Return what mlopsd does about a lost version, or when it tries again."""
    if seen.progress is not None:
        return seen.progress.sentence()
    left = 0.0 if seen.restore_at is None else (seen.restore_at - seen.now).total_seconds()
    return f"it is started again {f'in {format_age(left)}' if left >= 1 else 'now'}"


def _why_none_text(seen: Observed) -> str:
    """Return why the desired version does not serve, to be put after the consequence."""
    why = [_rejected_text(seen, rejection) for rejection in seen.rejected.values()]
    why += [seen.problem] if seen.problem is not None else []
    return f": {why[0]}" if why else _complaint_text(seen)


def _complaint_text(seen: Observed) -> str:
    return f": {seen.complaint_text}" if seen.complaints else ""


def _act(advice: Advice) -> Advice:
    """Return an act in place of ``watch``, for what does not serve: a reload tries again at once."""
    return Advice.RESTART_APP if advice is Advice.WATCH else advice


def _advice_without_version(seen: Observed) -> Advice:
    """Return the advice of the fault that prevents the desired version from serving."""
    found = [rejection.cause.advice for rejection in seen.rejected.values()]
    found += [Advice.FREE_RESOURCES] if seen.problem is not None else []
    return max(found) if found else _advice_of_registries(seen)


def _advice_of_registries(seen: Observed, otherwise: Advice = Advice.WATCH) -> Advice:
    """Return the advice of the complaints, or *otherwise* without one."""
    return max((complaint.cause.advice for complaint in seen.complaints), default=otherwise)


def _outdated_text(seen: Observed) -> str:
    why = seen.progress.sentence() if seen.progress else seen.precondition or "it restarts by itself"
    return f", as the table said before it was changed; {why}"


def _canary(seen: Observed, options: ModelOptions) -> Iterator[Finding]:
    if (serving := seen.serving) is None:
        return
    canary, number = serving.canary, serving.kept.version.number
    behind = _canary_behind_text(seen.canary_behind)
    if not canary.passed and not canary.was_asked:
        text = f"version {number} serves and cannot be proven: {canary.reason}"
        yield Finding("canary", Status.UNKNOWN, text, advice=_act(cause_of("canary", canary.kind).advice))
    elif not canary.passed:
        advice = _advice_in_service(canary.kind)
        text = f"version {number} fails its canary: {canary.reason}{behind}"
        yield Finding("canary", Status.UNHEALTHY, text, advice=advice)
    elif _is_at_a_standstill(seen.backlog, options):
        text = f"version {number} {_standstill_text(seen.backlog, options)}{behind}"
        yield Finding("canary", Status.DEGRADED, text, advice=Advice.WATCH)
    elif not canary.verified:
        fix = "log it with an input example, or set [probes.model.canary] input"
        why = canary.reason or "it has nothing to predict"
        text = f"version {number} is unverified: {why}; {fix}"
        yield Finding("canary", Status.DEGRADED, text, advice=Advice.FIX_MODEL)
    else:
        text = f"version {number} {_answered_text(canary)} in {canary.seconds:.3g} s{behind}"
        if canary.is_by_caller:
            text = f"version {number} answered callers since the last check, which its canary's rules accept"
        yield Finding("canary", Status.HEALTHY, text, observed=canary.seconds, unit="seconds")


def _answered_text(canary: CanaryResult) -> str:
    """Return how much the canary answered: ``predicted 3 rows``, or ``answered 7 rows to 1``."""
    answered = canary.rows if canary.answered is None else canary.answered
    if answered is None:
        text = "answered one request"
    elif canary.rows in (None, answered):
        text = f"predicted {format_count(answered, 'row')}"
    else:
        text = f"answered {format_count(answered, 'row')} to {canary.rows}"
    if canary.left_out:
        text += f" without {', '.join(canary.left_out[:MOST_FIELDS])}, which its example has"
    return text


def _is_at_a_standstill(backlog: Backlog, options: ModelOptions) -> bool:
    """Return whether callers waited longer than a request may take, so that the last canary is outdated."""
    patience = max(options.prediction.timeout, options.canary.timeout)
    return backlog.requests > 0 and backlog.seconds >= patience


def _standstill_text(backlog: Backlog, options: ModelOptions) -> str:
    waiting = "1 request waits" if backlog.requests == 1 else f"{backlog.requests} requests wait"
    return (
        f"has finished no prediction for {format_age(backlog.seconds)}, and {waiting}; "
        f"after {format_age(options.stall_timeout)} (stall_timeout) its process is replaced"
    )


def _advice_in_service(kind: CanaryKind) -> Advice:
    """Return the advice for a version that passed its canary before: the process or this host is at fault."""
    cause = cause_of("canary", kind)
    is_restart = cause.at_fault == "version" or kind in FIXED_BY_A_RESTART
    return Advice.RESTART_APP if is_restart else _act(cause.advice)


def _canary_behind_text(requests: int) -> str:
    if not requests:
        return ""
    return f"; the next canary waits its turn behind {requests} {'request' if requests == 1 else 'requests'}"


def _drift(seen: Observed) -> Iterator[Finding]:
    if seen.serving is None or seen.desired is None or seen.held_back is not None:
        return
    serves, wants = seen.serving.kept.version.number, seen.desired.number
    if seen.drift_since is None:
        if seen.named is not None:
            yield Finding(
                "version_drift", Status.HEALTHY, f"the registry wants version {wants}, which serves"
            )
        return
    seconds = (seen.now - seen.drift_since).total_seconds()
    age = format_age(seconds)
    why = f"; {seen.progress.sentence()}" if seen.progress else ""
    if seen.precondition is not None:
        why = f"; it is not taken up: {seen.precondition}"
    text = f"the registry wants version {wants}, this host serves version {serves}, for {age}{why}"
    advice = Advice.WATCH if seen.precondition is None else _advice_of_precondition(seen.precondition)
    yield Finding("version_drift", Status.DEGRADED, text, observed=seconds, unit="seconds", advice=advice)


def _advice_of_precondition(precondition: str) -> Advice:
    """Return no advice for a broken GPU, whose own finding names it; otherwise memory is short."""
    return Advice.NONE if BROKEN in precondition else Advice.FREE_RESOURCES


def _registry(seen: Observed, options: ModelOptions) -> Iterator[Finding]:
    for complaint in seen.complaints:
        text = f"{complaint.registry}: {complaint.reason}"
        if complaint.asked_for != "version":
            text += "; tried again by itself, or by a reload"
        elif seen.reached_at is not None and complaint.kind not in ANSWERS:
            text += f"; last answered {format_age((seen.now - seen.reached_at).total_seconds())} ago"
        advice = complaint.cause.advice
        yield Finding("registry", Status.DEGRADED, text, subject=complaint.registry, advice=advice)
    if not seen.complaints and seen.reached_at is not None:
        uri = options.registries[0].label
        yield Finding("registry", Status.HEALTHY, f"{uri} answers", subject=uri)


def _fallback(seen: Observed, options: ModelOptions) -> Iterator[Finding]:
    first = options.candidates[0]
    if (held := seen.held_back) is not None and seen.serving is not None:
        serves = seen.serving.kept.version
        text = (
            f"{held.registry} names version {held.number} by {held.candidate}; verified version "
            f"{serves.number} ({serves.candidate}) is kept; {_why_held(held, serves)}"
        )
        yield Finding("fallback", Status.DEGRADED, text, advice=_advice_of_fallback(held))
    elif seen.serving is not None and seen.serving.kept.version.is_fallback:
        version = seen.serving.kept.version
        text = (
            f"version {version.number} was named by {version.candidate} of {version.registry}, not by {first}"
        )
        yield Finding("fallback", Status.DEGRADED, text, advice=_advice_of_fallback(version))


def _advice_of_fallback(version: Version) -> Advice:
    """Return the advice for a fallback: the first registry has a problem, or an alias is gone."""
    return Advice.FIX_REGISTRY if version.registry_rank else Advice.FIX_MODEL


def _why_held(held: Version, serves: Version) -> str:
    if held.registry_rank > serves.registry_rank:
        return "a later registry never replaces it"
    return f'set {serves.candidate} again, or set fallback = "follow"'


def _thresholds(seen: Observed, options: ModelOptions) -> Iterator[Finding]:
    if not options.thresholds or seen.serving is None:
        return
    number, judgement = seen.serving.kept.version.number, seen.judgement
    if judgement is None:
        text = f"version {number} serves, and could not be held against the thresholds since the start"
        yield Finding("thresholds", Status.DEGRADED, text, advice=Advice.WATCH)
    elif judgement.failed:
        text = f"version {number} keeps serving; it would be rejected now ({'; '.join(judgement.failed)})"
        yield Finding("thresholds", Status.DEGRADED, text, advice=Advice.FIX_MODEL)
    elif judgement.missing:
        text = f"thresholds for what was never logged: {', '.join(judgement.missing)}"
        yield Finding("thresholds", Status.DEGRADED, text, advice=Advice.FIX_MODEL)
    else:
        yield Finding("thresholds", Status.HEALTHY, "every metric is within its threshold")


def _provenance(seen: Observed, options: ModelOptions) -> Iterator[Finding]:
    key, tag = options.signature.public_key, options.digest_tag
    if seen.serving is None or (tag is None and key is None):
        return
    kept, of_key = seen.serving.kept, None if key is None else seen.signature_fault
    number, is_tag_known = kept.version.number, kept.version.tagged_digest is not None
    if fault := (files_fault(kept, options) if is_tag_known else None) or of_key:
        text = f"version {number} keeps serving, but it would be rejected: {fault}"
        yield Finding("provenance", Status.DEGRADED, text, advice=Advice.FIX_MODEL)
    elif tag is not None and not is_tag_known:
        text = f"version {number} serves, and no registry has given its tag {tag} since the start"
        yield Finding("provenance", Status.DEGRADED, text, advice=Advice.WATCH)
    elif key is not None and of_key is None:
        text = f"version {number} serves, and its signature was not verified since the start"
        yield Finding("provenance", Status.DEGRADED, text, advice=Advice.WATCH)
    else:
        of_tag = [] if tag is None else [f"the digest of its tag {tag}"]
        signed = [] if key is None else [f"a signature by {key}"]
        text = f"its files have {' and '.join(of_tag + signed)}"
        yield Finding("provenance", Status.HEALTHY, text)


def _signature(seen: Observed, options: ModelOptions) -> Iterator[Finding]:
    if seen.serving is None or seen.serving.host.facts.get("signature") is not False:
        return
    text = f"version {seen.serving.kept.version.number} has no signature, so what callers send is not checked"
    if options.on_no_signature == "accept":
        yield Finding("signature", Status.HEALTHY, text)
    else:
        fix = 'log it with a signature, or set on_no_signature = "accept"'
        yield Finding("signature", Status.DEGRADED, f"{text}; {fix}", advice=Advice.FIX_MODEL)


def _features(seen: Observed) -> Iterator[Finding]:
    if seen.serving is not None and (unknown := seen.serving.host.facts.get("unknown_features")):
        text = (
            f"ranges for what version {seen.serving.kept.version.number} does not take: {', '.join(unknown)}"
        )
        yield Finding("features", Status.DEGRADED, text, advice=Advice.FIX_CONFIG)


def _batching(seen: Observed, options: ModelOptions) -> Iterator[Finding]:
    if seen.serving is None or not seen.is_mismatched or options.prediction.batching == "off":
        return
    number = seen.serving.kept.version.number
    text = (
        f"version {number} predicted joined requests differently from single ones; "
        'requests are no longer joined; set batching = "off"'
    )
    yield Finding("batching", Status.DEGRADED, text, advice=Advice.FIX_CONFIG)


def _rejected(seen: Observed) -> Iterator[Finding]:
    for rejection in seen.rejected.values():
        yield Finding(
            REJECTED[rejection.step],
            _rejected_status(seen),
            _rejected_text(seen, rejection),
            _subject(rejection),
            advice=_advice_of_rejection(seen, rejection),
        )


def _rejected_status(seen: Observed) -> Status:
    """Return the milder status if another version serves, or did until its process was lost."""
    has_other = seen.serving is not None or seen.lost is not None
    return Status.DEGRADED if has_other else Status.UNHEALTHY


def _advice_of_rejection(seen: Observed, rejection: Rejection) -> Advice:
    advice = rejection.cause.advice
    return advice if _rejected_status(seen) is Status.DEGRADED else _act(advice)


def _rejected_text(seen: Observed, rejection: Rejection) -> str:
    left = (rejection.until - seen.now).total_seconds()
    when = f"tried again in {format_age(left)}" if left > 0 else "tried again now"
    number, reason = rejection.version.number, rejection.reason
    if not rejection.is_rejected:
        return f"version {number} is not taken up ({reason}); {when}, or by a reload"
    if rejection.step == "provenance":  # its reason has the fix
        return f"version {number} was rejected: {reason}; {when}, or by a reload"
    fix = "set the alias back, or register another version; " if rejection.cause.at_fault == "version" else ""
    return f"version {number} {REJECTED_BY[rejection.step]} ({reason}); {fix}{when}, or by a reload"


def _subject(rejection: Rejection) -> str:
    return f"version {rejection.version.number}"


def _cache(seen: Observed, options: ModelOptions) -> Iterator[Finding]:
    if seen.problem is not None:
        yield Finding("cache", Status.DEGRADED, seen.problem, advice=Advice.FREE_RESOURCES)
        return
    if seen.serving is None:
        return
    proven = seen.serving.proven_at
    confirmed = min(filter(None, (proven, seen.reached_at)), default=None)
    if seen.reached_at is None:
        text = "served from disk; no registry has answered since the start"
        yield Finding("cache", Status.DEGRADED, text, advice=_advice_of_registries(seen))
    elif confirmed is not None and _age(seen, confirmed) > options.cache_ttl:
        age, ttl = format_age(_age(seen, confirmed)), format_age(options.cache_ttl)
        text = f"last proven and confirmed by a registry {age} ago, more than cache_ttl ({ttl})"
        yield Finding("cache", Status.DEGRADED, text, advice=_advice_of_registries(seen))
    else:
        yield Finding("cache", Status.HEALTHY, "proven, confirmed by a registry, and kept on disk")


def _age(seen: Observed, moment: datetime) -> float:
    return (seen.now - moment).total_seconds()


def _samples(seen: Observed, options: ModelOptions) -> Iterator[Sample]:
    model = options.model
    if seen.named is not None:
        yield DESIRED.sample(int(seen.named.number), model=model)
    if seen.drift_since is not None:
        yield DRIFT_SINCE.sample(seen.drift_since.timestamp(), model=model)
    if (serving := seen.serving) is None:
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
        digest=serving.kept.digest,
    )
    if seen.rss is not None:
        yield MEMORY.sample(seen.rss, version=version.number)


def _facts(seen: Observed, options: ModelOptions) -> dict[str, Any]:
    serving = seen.serving
    facts = VersionFacts(
        model=options.model,
        desired=RegisteredVersion(**seen.named.facts()) if seen.named else None,
        held_back=RegisteredVersion(**seen.held_back.facts()) if seen.held_back else None,
        served=_served(serving.kept) if serving else None,
        drift_since=seen.drift_since,
        progress=seen.progress,
        rejected=tuple(
            RejectedVersion(one.version.number, one.reason, one.until, one.step, one.cause.at_fault)
            for one in seen.rejected.values()
            if one.is_rejected
        ),
        serving_since=serving.since if serving else None,
    ).facts()
    if seen.judgement is not None and seen.judgement.judged:
        facts["metrics"] = {name: _metric(metric) for name, metric in seen.judgement.judged.items()}
    if serving is not None:
        host: dict[str, Any] = {"pid": serving.host.pid, "restarts": seen.restarts, **serving.host.facts}
        if seen.rss is not None:
            host["rss_bytes"] = seen.rss
        facts["host"] = host
    return facts


def _served(kept: CachedVersion) -> RegisteredVersion:
    return RegisteredVersion(**kept.version.facts(), digest=kept.digest)


def _metric(metric: LoggedMetric) -> dict[str, Any]:
    """Return a judged metric as a fact; JSON has no NaN and no infinity."""
    value = {"value": metric.value} if math.isfinite(metric.value) else {}
    moment = {} if metric.logged_at is None else {"logged_at": format_time(metric.logged_at)}
    return {**value, "source": metric.source, **moment}
