"""The meaning of an NVML error if a card answers nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pynvml

from mlopsd.probe import Advice, Finding, Status
from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.nvml import LACKING, NO_CARD

RIGHTS = "give the service DeviceAllow=char-nvidia* and the group of /dev/nvidia*"


@dataclass(frozen=True, slots=True)
class CardFault:
    """The meaning of an error if a card answers nothing else.

    Attributes:
        status: unhealthy if the card is lost; unknown if the probe cannot ask it.
        text: the predicate of a sentence on the card.
        advice: the advice for an operator.
    """

    status: Status
    text: str
    advice: Advice

    @property
    def is_loss(self) -> bool:
        """True if the card is known to be broken."""
        return self.status is Status.UNHEALTHY


FAULTS = {
    pynvml.NVML_ERROR_GPU_IS_LOST: CardFault(
        Status.UNHEALTHY, "is lost: it has fallen off the bus or cannot be reached", Advice.REBOOT
    ),
    pynvml.NVML_ERROR_GPU_NOT_FOUND: CardFault(
        Status.UNHEALTHY, "is no longer found by its driver", Advice.REBOOT
    ),
    pynvml.NVML_ERROR_RESET_REQUIRED: CardFault(
        Status.UNHEALTHY, "must be reset before it works again", Advice.RESET_GPU
    ),
    pynvml.NVML_ERROR_INSUFFICIENT_POWER: CardFault(
        Status.UNHEALTHY, "lacks power: look at its power cables", Advice.CHECK_HARDWARE
    ),
    pynvml.NVML_ERROR_IRQ_ISSUE: CardFault(
        Status.UNHEALTHY, "gets no interrupts from the host", Advice.REBOOT
    ),
    pynvml.NVML_ERROR_CORRUPTED_INFOROM: CardFault(
        Status.UNHEALTHY, "has a corrupted infoROM", Advice.REPLACE_HARDWARE
    ),
    pynvml.NVML_ERROR_UNKNOWN: CardFault(
        Status.UNHEALTHY, "is lost: it answers only Unknown Error; see dmesg for XID 79", Advice.REBOOT
    ),
    pynvml.NVML_ERROR_TIMEOUT: CardFault(
        Status.UNHEALTHY, "answers nothing in time; see dmesg for XID 119", Advice.RESET_GPU
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: CardFault(
        Status.UNKNOWN, f"may not be opened; {RIGHTS}", Advice.FIX_CONFIG
    ),
    pynvml.NVML_ERROR_OPERATING_SYSTEM: CardFault(
        Status.UNKNOWN, f"is blocked by the operating system; {RIGHTS}", Advice.FIX_CONFIG
    ),
    pynvml.NVML_ERROR_MEMORY: CardFault(
        Status.UNKNOWN, "cannot be asked: the host has no memory left for it", Advice.FREE_RESOURCES
    ),
}
MAYBE_TAKEN_AWAY = CardFault(
    Status.UNHEALTHY,
    "answers only Unknown Error: this container may have lost it, so restart the container; "
    "if that does not help, see dmesg on the host for XID 79",
    Advice.RESTART_APP,
)
NOT_ITS_FAULT = LACKING | {
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_IN_USE,
    pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES,
}  # errors of the call or the host, which prove nothing about the card


def _temperature(handle: Any) -> Any:
    return pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)


def _clock(handle: Any) -> Any:
    return pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)


ESSENTIAL: tuple[Callable[[Any], Any], ...] = (
    _temperature,
    _clock,
    pynvml.nvmlDeviceGetPerformanceState,
    pynvml.nvmlDeviceGetUtilizationRates,
    pynvml.nvmlDeviceGetMemoryInfo,
    pynvml.nvmlDeviceGetPowerUsage,
    pynvml.nvmlDeviceGetCurrPcieLinkWidth,
)  # the driver must ask the card for these; it may have cached names, limits and modes
ENOUGH = 2  # essential queries that must fail: one bad sensor is no lost card


def shared_error(card: Card) -> pynvml.NVMLError | None:
    """Return the error that every essential query of *card* gives; None if one answers or they differ."""
    errors: list[pynvml.NVMLError] = []
    for query in ESSENTIAL:
        try:
            query(card.handle)
        except pynvml.NVMLError as error:
            if error.value not in LACKING:
                errors.append(error)
        else:
            return None
    codes = {error.value for error in errors}
    return errors[0] if len(codes) == 1 and len(errors) >= ENOUGH else None


def answers(card: Card) -> Finding:
    """Return the finding on a card that answers."""
    return Finding("gpu_answers", Status.HEALTHY, f"{card.title} answers", card.subject)


def fault_of(error: pynvml.NVMLError) -> CardFault:
    """Return the meaning of *error* if a card answers nothing else."""
    if error.value in NOT_ITS_FAULT:
        return _unclear(error)
    lost = CardFault(
        Status.UNHEALTHY, f"answers only {error}: see dmesg for NVRM, and reset the card", Advice.RESET_GPU
    )
    return FAULTS.get(error.value, lost)


def fault_without_identity(error: pynvml.NVMLError) -> CardFault:
    """Return the meaning of *error* if the driver gives it in place of the card's handle or UUID."""
    fault = fault_of(error)
    is_proof = error.value in NO_CARD or error.value == pynvml.NVML_ERROR_UNKNOWN
    return fault if is_proof or not fault.is_loss else _unclear(error)


def _unclear(error: pynvml.NVMLError) -> CardFault:
    """Return a fault that says nothing of the card."""
    text = f"cannot be asked: {error}; restart mlopsd; if that does not help, see dmesg for NVRM"
    return CardFault(Status.UNKNOWN, text, Advice.RESTART_APP)


def silent(card: Card, fault: CardFault, *, lasting: bool) -> Finding:
    """Return the finding on a card that does not answer; it is *lasting* if something proves the loss."""
    summary = f"{card.title} {fault.text}"
    return Finding("gpu_answers", fault.status, summary, card.subject, advice=fault.advice, lasting=lasting)
