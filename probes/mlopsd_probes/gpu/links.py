"""What NVML tells of each NVLink of a card."""

from collections.abc import Sequence
from ctypes import byref, c_uint, c_ulonglong, sizeof
from itertools import repeat
from typing import Any

import pynvml

from mlopsd_probes.gpu.nvml import UNKNOWN_ARGUMENT, ask, checked, function, number

MOST_LINKS: int = pynvml.NVML_NVLINK_MAX_LINKS


class Links:
    """``nvmlDeviceGetNvLinkState`` and ``nvmlDeviceGetNvLinkErrorCounter``.

    Eight cards have hundreds of these numbers, and pynvml's own functions take three times as long for one.
    So the C functions are called in a row, into places that are laid out once.
    """

    def __init__(self) -> None:
        self.told_states = (c_uint * MOST_LINKS)()
        self.told_counts = (c_ulonglong * MOST_LINKS)()
        self.state_places = [byref(self.told_states, at * sizeof(c_uint)) for at in range(MOST_LINKS)]
        self.count_places = [byref(self.told_counts, at * sizeof(c_ulonglong)) for at in range(MOST_LINKS)]

    def states(self, handle: Any) -> dict[int, int]:
        """1 or 0 by link, of the links that the card has.

        Raises:
            NVMLError: it has some, and one cannot be read.
        """
        call = ask(function, "nvmlDeviceGetNvLinkState")
        found: dict[int, int] = {}
        if call is None:
            return found
        answers = map(call, repeat(handle), range(MOST_LINKS), self.state_places)
        for link, answer in enumerate(answers):
            if answer not in UNKNOWN_ARGUMENT:
                checked(answer)
                found[link] = int(bool(self.told_states[link]))
            elif not found:
                break  # a card without links says so at the first
        return found

    def errors(self, handle: Any, links: Sequence[int], counter: int) -> dict[int, int | None]:
        """The `number` by link; nothing if one of *links* does not count errors of that kind.

        Raises:
            NVMLError: it counts, and cannot be read.
        """
        call = ask(function, "nvmlDeviceGetNvLinkErrorCounter")
        if call is None:
            return {}
        answers = map(call, repeat(handle), links, repeat(counter), self.count_places)
        refused = next(filter(None, answers), pynvml.NVML_SUCCESS)  # the first, after which none is asked
        if refused in UNKNOWN_ARGUMENT:
            return {}
        checked(refused)
        return dict(zip(links, map(number, self.told_counts[: len(links)]), strict=True))
