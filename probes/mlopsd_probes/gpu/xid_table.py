"""The known XIDs, with the advice of each."""

from dataclasses import dataclass

from mlopsd.probe import Advice

SOURCE = "https://docs.nvidia.com/deploy/xid-errors/"
FALLEN_OFF = 79


@dataclass(frozen=True, slots=True)
class Meaning:
    """The text of an XID, and the advice if it is judged."""

    text: str
    advice: Advice


XIDS = {
    13: Meaning("graphics engine exception: the application's fault", Advice.RESTART_APP),
    31: Meaning("GPU memory page fault: the application's fault", Advice.RESTART_APP),
    43: Meaning("GPU stopped processing: the application's fault", Advice.RESTART_APP),
    45: Meaning("preemptive cleanup after another fault or a killed application", Advice.RESTART_APP),
    48: Meaning("double-bit ECC error", Advice.RESET_GPU),
    61: Meaning("internal micro-controller breakpoint", Advice.RESET_GPU),
    62: Meaning("internal micro-controller halt", Advice.RESET_GPU),
    63: Meaning("row remapping or page retirement recorded", Advice.RESET_GPU),
    64: Meaning("row remapping or page retirement could not be recorded", Advice.RESET_GPU),
    68: Meaning("video decoder exception", Advice.RESTART_APP),
    69: Meaning("graphics engine class error", Advice.RESTART_APP),
    74: Meaning("NVLink error", Advice.RESET_GPU),
    FALLEN_OFF: Meaning("the GPU has fallen off the bus", Advice.REBOOT),
    92: Meaning("high rate of single-bit ECC errors", Advice.WATCH),
    94: Meaning("contained ECC error: restart the application that it hit", Advice.RESTART_APP),
    95: Meaning("uncontained ECC error", Advice.RESET_GPU),
    119: Meaning("timeout of a call to the GPU's system processor (GSP)", Advice.RESET_GPU),
    120: Meaning("error of the GPU's system processor (GSP)", Advice.RESET_GPU),
    121: Meaning("corrected C2C link error", Advice.WATCH),
    137: Meaning("NVLink fault caused by an application", Advice.RESTART_APP),
    140: Meaning("unrecovered ECC error", Advice.RESET_GPU),
}
UNKNOWN = Meaning("not in this probe's table; see NVIDIA's", Advice.RESET_GPU)


def meaning(xid: int) -> Meaning:
    """Return the meaning of *xid*."""
    return XIDS.get(xid, UNKNOWN)
