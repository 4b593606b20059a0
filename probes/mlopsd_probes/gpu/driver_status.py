"""The finding on the driver, and the evidence that needs no call of the driver."""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pynvml

from mlopsd.format import format_count, format_duration
from mlopsd.probe import Advice, Finding, Status
from mlopsd_probes.container import is_container
from mlopsd_probes.gpu.card_errors import FAULTS
from mlopsd_probes.gpu.card_reading import CardReading
from mlopsd_probes.gpu.driver import Versions
from mlopsd_probes.gpu.nvml import NO_CARD, NO_MODULE
from mlopsd_probes.gpu.options import GpuOptions

CONTROL = "dev/nvidiactl"  # every process that uses the driver opens it
REFUSALS = frozenset({errno.EPERM, errno.EACCES})  # EPERM comes from the device cgroup
MISMATCH_IN_CONTAINER = (
    "the NVIDIA driver of the host and the library in this container are of different versions, as after an "
    "upgrade of the driver; restart the container"
)
REASONS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is not there; install the NVIDIA driver",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded; try modprobe nvidia, then dmesg",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA driver in the kernel and its library are of different versions, as after an upgrade; "
        "load the driver again or reboot"
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "the NVIDIA devices may not be opened; give the service DeviceAllow=char-nvidia* and the group of "
        "/dev/nvidia* (video on many hosts)"
    ),
}
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
    "mlopsd may have lost its access to the devices (see DeviceAllow=char-nvidia*): restart mlopsd; "
    "if that does not help, the driver or the GPUs have failed (see dmesg for NVRM and XID 79)"
)


@dataclass(frozen=True, slots=True)
class Access:
    """The access of this process to the driver.

    Attributes:
        in_container: it runs in a container, which may have only some devices of its host.
        to_driver: it may open the driver's control device; None if unknown.
    """

    in_container: bool
    to_driver: bool | None

    @property
    def is_granted(self) -> bool:
        """True if this process is not in a container and may open the driver."""
        return self.to_driver is True and not self.in_container


def access(root: Path) -> Access:
    """Return the present access below *root*, which is ``/`` except in tests."""
    return Access(is_container(root), may_open(root / CONTROL))


def may_open(device: Path) -> bool | None:
    """Return whether *device* may be opened for reading and writing; None after any other error."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return False if error.errno in REFUSALS else None
    return True


def present(versions: Versions) -> Finding:
    """Return the finding while NVML answers."""
    reported = f"NVML {versions.nvml or 'of unknown version'}, CUDA {versions.cuda or 'unknown'}"
    return Finding(
        "driver", Status.HEALTHY, f"driver {versions.driver or 'of unknown version'} answers ({reported})"
    )


def hung(call: str, seconds: float, *, is_first: bool) -> Finding:
    """Return the finding while *call* has not returned for *seconds*; the first time it may only be slow."""
    summary = f"the NVIDIA driver has not answered {call} for {format_duration(seconds)}"
    if is_first:
        summary += "; if the next check gets no answer either, it hangs"
        return Finding("driver", Status.UNKNOWN, summary, advice=Advice.WATCH)
    summary += ", so it hangs: see dmesg for NVRM and XID, drain the host and reboot it"
    return Finding("driver", Status.UNKNOWN, summary, advice=Advice.REBOOT)


def absent(
    error: pynvml.NVMLError, options: GpuOptions, on_bus: Mapping[str, str], access: Access
) -> Finding:
    """Return the finding while NVML cannot be used."""
    on_the_bus = (
        f" ({format_count(len(on_bus), 'NVIDIA GPU')} on the PCI bus: {', '.join(on_bus)})" if on_bus else ""
    )
    otherwise = f"NVML fails: {error}; restart mlopsd; if that does not help, see dmesg for NVRM"
    reason = REASONS.get(error.value, otherwise) + on_the_bus
    if error.value in NO_CARD:
        fault = FAULTS[error.value]
        summary = f"NVML fails: a GPU {fault.text}{on_the_bus}"
        return Finding("driver", Status.UNHEALTHY, summary, advice=fault.advice, lasting=True)
    if error.value in NO_MODULE and options.expected_count == 0:
        return Finding("driver", Status.HEALTHY, f"no GPU is expected, and {reason.partition(';')[0]}")
    if error.value == pynvml.NVML_ERROR_UNKNOWN or _is_shut_out(error, access):
        return _no_answer(f"NVML fails: {error}{on_the_bus}", access)
    if error.value in NO_MODULE:
        status = options.no_driver_status
        advice = Advice.NONE if status is Status.HEALTHY else Advice.FIX_CONFIG
        return Finding("driver", status, reason, advice=advice)
    if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return _mismatch(on_the_bus, access)
    advice = Advice.FIX_CONFIG if error.value == pynvml.NVML_ERROR_NO_PERMISSION else Advice.RESTART_APP
    return Finding("driver", Status.UNKNOWN, reason, advice=advice)


def _mismatch(on_the_bus: str, access: Access) -> Finding:
    """Return the finding if driver and library differ; a container keeps the library of its start."""
    if access.in_container:
        reason = f"{MISMATCH_IN_CONTAINER}{on_the_bus}"
        return Finding("driver", Status.UNHEALTHY, reason, advice=Advice.RESTART_APP)
    reason = f"{REASONS[pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH]}{on_the_bus}"
    return Finding("driver", Status.UNHEALTHY, reason, advice=Advice.REBOOT, lasting=True)


def _is_shut_out(error: pynvml.NVMLError, access: Access) -> bool:
    """Return true if the driver seems not loaded because this process may not open it."""
    return error.value == pynvml.NVML_ERROR_DRIVER_NOT_LOADED and access.to_driver is False


def outage_of(seen: Sequence[CardReading], access: Callable[[], Access]) -> Finding | None:
    """Return a finding on the driver if no card answers and NVML's error does not name the cause.

    A single card is itself at fault if this process may open the driver.
    """
    errors = [one.error for one in seen if one.error is not None and one.is_unexplained]
    if not errors or any(one.error is None for one in seen):
        return None
    is_unknown = all(error.value == pynvml.NVML_ERROR_UNKNOWN for error in errors)
    if len(seen) == 1 and (not is_unknown or access().is_granted):
        return None
    reported = " or ".join(sorted({str(error) for error in errors}))
    summary = f"no GPU answers: {format_count(len(errors), 'GPU')} only said {reported}"
    if is_unknown:
        return _no_answer(summary, access())
    return _all_silent(summary, access())


def _all_silent(summary: str, access: Access) -> Finding:
    """Return the finding if no card answers, with an error that may come from the driver or a container."""
    if access.is_granted:
        summary += "; the driver has failed: see dmesg for NVRM and XID, drain the host and reboot it"
        return Finding("driver", Status.UNHEALTHY, summary, advice=Advice.REBOOT)
    program = "the container" if access.in_container else "mlopsd"
    summary += f"; restart {program}; if that does not help, see dmesg on the host for NVRM and XID"
    return Finding("driver", Status.UNHEALTHY, summary, advice=Advice.RESTART_APP)


def _no_answer(summary: str, access: Access) -> Finding:
    """Return the finding if every call gives Unknown Error, with the cause that *access* shows."""
    status, cause, advice = cause_of(access)
    lasting = advice is Advice.REBOOT
    return Finding("driver", status, f"{summary}; {cause}", advice=advice, lasting=lasting)


def cause_of(access: Access) -> tuple[Status, str, Advice]:
    """Return the status, cause and advice from the evidence; advise a reboot only as the last resort."""
    if access.in_container:
        return Status.UNKNOWN, IN_CONTAINER, Advice.RESTART_APP
    if access.to_driver is None:
        return Status.UNKNOWN, NO_EVIDENCE, Advice.RESTART_APP
    if access.is_granted:
        return Status.UNHEALTHY, FAILED, Advice.REBOOT
    return Status.UNKNOWN, DENIED, Advice.FIX_CONFIG
