"""Judges the host as a whole: if no card answers, no single card is to blame."""

from collections.abc import Callable, Sequence

import pynvml

from mlopsd.format import format_count
from mlopsd.probe import Advice, Finding, Status
from mlopsd_probes.gpu.access import Access
from mlopsd_probes.gpu.looks import CardReading

IN_CONTAINER = (
    "this container has probably lost its GPU devices, as after systemctl daemon-reload on its host: "
    "restart the container; if that does not help, see dmesg on the host for NVRM and XID 79"
)
DENIED = "/dev/nvidiactl may not be opened: give the service DeviceAllow=char-nvidia* and restart mlopsd"
FAILED = (
    "/dev/nvidiactl can be opened, so the driver or the GPUs have failed: "
    "see dmesg for NVRM and XID 79, and reboot"
)
NO_EVIDENCE = (
    "mlopsd may have lost its access to the devices (see DeviceAllow=char-nvidia*, and restart mlopsd), "
    "or the driver or the GPUs have failed (see dmesg for NVRM and XID 79)"
)


def outage(seen: Sequence[CardReading], access: Callable[[], Access]) -> Finding | None:
    """Return a finding on the driver if no card answers and NVML's error does not name the cause.

    A single card has itself to blame if this process may open the driver.
    """
    errors = [one.error for one in seen if one.error is not None and one.is_unexplained]
    if not errors or any(one.error is None for one in seen):
        return None
    is_unknown = all(error.value == pynvml.NVML_ERROR_UNKNOWN for error in errors)
    if len(seen) == 1 and (not is_unknown or access().is_granted):
        return None
    told = " or ".join(sorted({str(error) for error in errors}))
    summary = f"no GPU answers: {format_count(len(errors), 'GPU')} only said {told}"
    if is_unknown:
        return no_answer(summary, access())
    summary += "; the driver may have failed: see dmesg for NVRM and XID"
    return Finding("driver", Status.UNHEALTHY, summary, advice=Advice.WATCH)


def no_answer(summary: str, access: Access) -> Finding:
    """Return the finding for Unknown Error from everything, with the cause as far as *access* shows it."""
    status, cause, advice = cause_of(access)
    lasting = advice is Advice.REBOOT
    return Finding("driver", status, f"{summary}; {cause}", advice=advice, lasting=lasting)


def cause_of(access: Access) -> tuple[Status, str, Advice]:
    """Return what the evidence says; a reboot is advised only where nothing else is left."""
    if access.in_container:
        return Status.UNKNOWN, IN_CONTAINER, Advice.RESTART_APP
    if access.to_driver is None:
        return Status.UNKNOWN, NO_EVIDENCE, Advice.WATCH
    if access.is_granted:
        return Status.UNHEALTHY, FAILED, Advice.REBOOT
    return Status.UNKNOWN, DENIED, Advice.FIX_CONFIG
