"""Judge the number of GPUs that answer, and name the missing ones."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from mlopsd.format import format_count
from mlopsd.probe import Advice, Finding, Metric, Sample, Status
from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.history import CardRecord
from mlopsd_probes.gpu.options import GpuOptions

DEVICES = Metric("devices", "GPUs that answer.")


def devices(answering: int) -> Sample:
    """Return the number of GPUs that answer as a sample."""
    return DEVICES.sample(answering)


def judge(
    options: GpuOptions,
    listed: Sequence[Card],
    lost: Collection[int],
    gone: Mapping[str, CardRecord],
    on_bus: Collection[str],
    *,
    unasked: Collection[int] = (),
    in_container: bool = False,
) -> list[Finding]:
    """Return one finding on the number, and one on each card that is missing.

    Args:
        options: has ``expected_count``; if set, it decides.
        listed: the cards that NVML lists.
        lost: the indexes of the listed cards that do not answer; each has its own finding.
        gone: cards that answered since boot and are not listed now, by UUID.
        on_bus: PCI addresses of the GPUs in sysfs.
        unasked: the indexes of the listed cards that could not be asked, and may be healthy.
        in_container: sysfs shows all cards of the host, not only the container's.
    """
    answering = len(listed) - len(lost) - len(unasked)
    known = {card.bus_id for card in listed} | {card.bus_id for card in gone.values()}
    silent = [] if any(not card.bus_id for card in listed) else sorted(set(on_bus) - known)
    hidden = silent if in_container else []
    silent = [] if in_container else silent
    expected = options.expected_count
    if expected is None:
        expected = len(listed) + len(gone) + len(silent)
    absent = [*_missing_cards(gone, listed, in_container=in_container), *map(_silent_card, silent)]
    named = absent if answering < expected else []
    is_named = bool(named or lost or unasked)
    number = _judge_number(
        answering, expected, options, is_named=is_named, unasked=len(unasked), in_container=in_container
    )
    return [*named, _with_hidden(number, hidden)]


def _with_hidden(finding: Finding, hidden: Collection[str]) -> Finding:
    """Add the cards that this container cannot see to the finding."""
    if not hidden:
        return finding
    seen = f"{format_count(len(hidden), 'other GPU')} of the host {'is' if len(hidden) == 1 else 'are'}"
    return replace(finding, summary=f"{finding.summary}; {seen} not visible in this container")


def _judge_number(
    answering: int,
    expected: int,
    options: GpuOptions,
    *,
    is_named: bool,
    unasked: int = 0,
    in_container: bool = False,
) -> Finding:
    """Judge the number of GPUs.

    - Fewer than expected: unhealthy; unknown if the *unasked* cards would complete the number.
    - More than expected: degraded, since ``expected_count`` is wrong.
    - None: the status that the operator configured.

    If other findings name the cards (*is_named*), this one has no advice. A container may not have all
    cards, so missing ones are no reason for a reboot.
    """
    status, advice = Status.HEALTHY, Advice.NONE
    summary = f"{format_count(answering, 'GPU')} of {expected} answer{'s' * (answering == 1)}"
    if answering < expected:
        status = Status.UNKNOWN if answering + unasked >= expected else Status.UNHEALTHY
        advice = Advice.FIX_CONFIG if in_container else Advice.REBOOT
        advice = Advice.NONE if is_named else advice
    elif answering > expected:
        status, advice = Status.DEGRADED, Advice.FIX_CONFIG
        summary += "; set expected_count to what there is"
    elif not answering and options.expected_count is None:
        status = options.no_driver_status
        advice = Advice.NONE if status is Status.HEALTHY else Advice.FIX_CONFIG
        summary = "the NVIDIA driver answers and has no GPU; set expected_count = 0 if there is none"
    lasting = advice is Advice.REBOOT
    return Finding("gpu_count", status, summary, None, answering, "gpus", expected, advice, lasting)


def subjects_of(gone: Mapping[str, CardRecord], listed: Sequence[Card]) -> dict[str, str]:
    """Return the UUID of each gone card by subject; another card may have its index now."""
    taken = {card.index for card in listed}
    return {f"gpu {card.index}{' before' * (card.index in taken)}": uuid for uuid, card in gone.items()}


def _missing_cards(
    gone: Mapping[str, CardRecord], listed: Sequence[Card], *, in_container: bool
) -> list[Finding]:
    """Return a finding on each gone card."""
    found = []
    for subject, uuid in subjects_of(gone, listed).items():
        card = gone[uuid]
        title = f"gpu {card.index} ({card.name}, {card.bus_id}, {uuid})"
        summary = f"{title} was there and is gone; see dmesg"
        found.append(
            _taken_away(summary, subject) if in_container else _missing(f"{summary} for XID 79", subject)
        )
    return found


def _silent_card(bus_id: str) -> Finding:
    """Return the finding on a card that the kernel lists and NVML does not."""
    summary = f"the NVIDIA GPU at {bus_id} is on the PCI bus and NVML does not list it; see dmesg for NVRM"
    return _missing(f"{summary}, or name it in ignored_cards", f"pci {bus_id}")


def _taken_away(summary: str, subject: str) -> Finding:
    """Return the finding on a card gone from a container, which may have restarted without it."""
    summary += " on the host for XID 79. If this container was started without it, run mlopsd reload gpu"
    return Finding("gpu_missing", Status.UNHEALTHY, summary, subject, advice=Advice.FIX_CONFIG)


def _missing(summary: str, subject: str) -> Finding:
    """Return an unhealthy finding."""
    return Finding("gpu_missing", Status.UNHEALTHY, summary, subject, advice=Advice.REBOOT, lasting=True)
