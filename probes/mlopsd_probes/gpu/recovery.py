"""The recovery action that the driver asks for."""

import pynvml

from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import Fields

ACTION = Metric(
    "recovery_action",
    "0 none, 1 reset the GPU, 2 reboot, 3 drain P2P, 4 drain and reset, and so on, as NVML numbers them.",
    labels=LABELS,
)
FIELDS = Fields(pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)
ACTIONS = {
    pynvml.NVML_GPU_RECOVERY_ACTION_GPU_RESET: (Status.UNHEALTHY, "to be reset", Advice.RESET_GPU),
    pynvml.NVML_GPU_RECOVERY_ACTION_NODE_REBOOT: (Status.UNHEALTHY, "a reboot of the host", Advice.REBOOT),
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_P2P: (
        Status.DEGRADED,
        "its peer-to-peer work to end before new work starts",
        Advice.RESTART_APP,
    ),
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET: (
        Status.DEGRADED,
        "its work to end and then to be reset",
        Advice.RESET_GPU,
    ),
}


class Recovery(CardCollector):
    """The field ``GET_GPU_RECOVERY_ACTION``, of drivers of 2024 and later.

    A card that no longer needs its recovery was reset, so its XIDs are closed.
    """

    name = "recovery_action"
    findings = ("recovery_action",)
    metrics = (ACTION,)

    def collect(self, card: Card) -> Reading:
        """Judge the action."""
        answer = FIELDS.of(card.handle)
        if not answer:
            return Reading()
        action = int(answer[pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
        self._remember(card, needs_recovery=action != pynvml.NVML_GPU_RECOVERY_ACTION_NONE)
        return Reading([_judge(card, action)], card.samples(ACTION, action))

    def _remember(self, card: Card, *, needs_recovery: bool) -> None:
        """Record the need; when it ends, record a reset of the card."""
        with self.history.lock:
            known = self.history.of(card)
            if known.needed_recovery and not needs_recovery:
                self.history.card_reset(card)
            known.needed_recovery = needs_recovery


def _judge(card: Card, action: int) -> Finding:
    """Judge the action; an unknown action needs at least a reset."""
    if action == pynvml.NVML_GPU_RECOVERY_ACTION_NONE:
        summary = f"{card.title} needs no recovery"
        return Finding("recovery_action", Status.HEALTHY, summary, card.subject)
    unknown = (Status.UNHEALTHY, f"recovery action {action}", Advice.RESET_GPU)
    status, need, advice = ACTIONS.get(action, unknown)
    summary = f"{card.title} needs {need}, says its driver"
    lasting = advice is not Advice.RESTART_APP  # that action also ends without a reset, when the work ends
    return Finding("recovery_action", status, summary, card.subject, action, advice=advice, lasting=lasting)
