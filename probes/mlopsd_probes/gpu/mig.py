"""The MIG mode of a card, and its instances."""

from typing import Any

import pynvml

from mlopsd.probe import Metric, Reading
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import OF_THE_CALL, UNKNOWN_ARGUMENT, ask, memory_of, text

MODE = Metric("mig_mode", "1 if the card is split by MIG.", labels=LABELS)
INSTANCES = Metric("mig_instances", "MIG devices of the card.", labels=LABELS)
OFF, ON = pynvml.NVML_DEVICE_MIG_DISABLE, pynvml.NVML_DEVICE_MIG_ENABLE
NO_INSTANCE = UNKNOWN_ARGUMENT | {pynvml.NVML_ERROR_NOT_FOUND}
NOT_ALLOWED = UNKNOWN_ARGUMENT | {pynvml.NVML_ERROR_NO_PERMISSION}


class Mig(CardCollector):
    """``nvmlDeviceGetMigMode``, and each device of ``nvmlDeviceGetMigDeviceHandleByIndex``."""

    name = "mig"
    metrics = (MODE, INSTANCES)

    def collect(self, card: Card) -> Reading:
        """Report the mode, and the instances as facts."""
        modes = ask(pynvml.nvmlDeviceGetMigMode, card.handle)
        if modes is None or modes[0] not in (OFF, ON):
            return Reading()
        current, pending = modes
        samples = card.samples(MODE, int(bool(current)))
        facts: dict[str, Any] = {"mig_mode": bool(current)}
        if pending != current:
            facts["mig_mode_pending"] = bool(pending)
        if current:
            facts["mig_instances"] = _instances(card.handle)
            samples += card.samples(INSTANCES, len(facts["mig_instances"]))
        return Reading(samples=samples, facts=facts)


def _instances(handle: Any) -> list[dict[str, Any]]:
    """Return each MIG device: UUID, name, ids of its GPU and compute instance, and known memory in bytes."""
    most = ask(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
    found = (
        ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index, lacking=NO_INSTANCE)
        for index in range(most)
    )
    return [_instance(device) for device in found if device is not None]


def _instance(device: Any) -> dict[str, Any]:
    """Return one MIG device."""
    memory = ask(memory_of, device, lacking=NOT_ALLOWED)
    facts = {
        "uuid": text(ask(pynvml.nvmlDeviceGetUUID, device)),
        "name": text(ask(pynvml.nvmlDeviceGetName, device)),
        "gpu_instance": ask(pynvml.nvmlDeviceGetGpuInstanceId, device),
        "compute_instance": ask(pynvml.nvmlDeviceGetComputeInstanceId, device),
        "memory_total_bytes": None if memory is None else memory.total,
        "memory_free_bytes": None if memory is None else memory.free,
    }
    return {key: value for key, value in facts.items() if value not in (None, "")}


def is_split(handle: Any) -> bool:
    """Return true if MIG is on; then an unprivileged process can read less."""
    modes = ask(pynvml.nvmlDeviceGetMigMode, handle, lacking=OF_THE_CALL)
    return bool(modes and modes[0] == ON)
