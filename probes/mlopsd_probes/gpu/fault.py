"""Judges a card that does not answer at all, or not to one look."""

import pynvml

from mlopsd.probe import Advice, Finding, Status
from mlopsd_probes.gpu.card import Card

FAULTS = {
    pynvml.NVML_ERROR_GPU_IS_LOST: ("is lost: it has fallen off the bus or cannot be reached", Advice.REBOOT),
    pynvml.NVML_ERROR_GPU_NOT_FOUND: ("is no longer found by its driver", Advice.REBOOT),
    pynvml.NVML_ERROR_RESET_REQUIRED: ("must be reset before it works again", Advice.RESET_GPU),
    pynvml.NVML_ERROR_INSUFFICIENT_POWER: ("lacks power: look at its power cables", Advice.REPLACE_HARDWARE),
    pynvml.NVML_ERROR_IRQ_ISSUE: ("gets no interrupts from the host", Advice.REBOOT),
    pynvml.NVML_ERROR_CORRUPTED_INFOROM: ("has a corrupted infoROM", Advice.REPLACE_HARDWARE),
}


def answers(card: Card) -> Finding:
    """The card answers."""
    return Finding("gpu_answers", Status.HEALTHY, f"{card.title} answers", card.subject)


def silent(card: Card, error: pynvml.NVMLError) -> Finding:
    """The card does not answer, for a reason that NVML gives."""
    if error.value in FAULTS:
        words, advice = FAULTS[error.value]
        summary = f"{card.title} {words}"
        return Finding("gpu_answers", Status.UNHEALTHY, summary, card.subject, advice=advice, lasting=True)
    if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
        cure = "give the service DeviceAllow=char-nvidia* and the group of /dev/nvidia*"
        summary = f"{card.title} may not be opened; {cure}"
        return Finding("gpu_answers", Status.UNKNOWN, summary, card.subject, advice=Advice.FIX_CONFIG)
    summary = f"cannot ask {card.title}: {error}"
    return Finding("gpu_answers", Status.UNKNOWN, summary, card.subject, advice=Advice.WATCH)


def unreadable(name: str, card: Card, error: pynvml.NVMLError, *, judged: bool) -> Finding:
    """One look failed: without a judgement there is no telling; without a number there only is no number."""
    status = Status.UNKNOWN if judged else Status.DEGRADED
    summary = f"cannot read {name.replace('_', ' ')} of {card.title}: {error}"
    return Finding(name, status, summary, card.subject, advice=Advice.WATCH)
