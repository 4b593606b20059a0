"""A row of NVML's numbered fields, asked for in one call."""

from collections.abc import Mapping
from typing import Any

import pynvml

from mlopsd_probes.gpu.nvml import SENTINELS, UNKNOWN_ARGUMENT, ask, checked, function

VALUE_FIELDS = (
    "dVal",
    "uiVal",
    "ulVal",
    "ullVal",
    "sllVal",
    "siVal",
    "usVal",
)  # of nvmlValue_t, by nvmlValueType_t


class Fields:
    """``nvmlDeviceGetFieldValues`` of the field *ids*.

    The array for them is laid out once: to make its type anew costs five times what the call does.
    """

    def __init__(self, *ids: int) -> None:
        self.kind = pynvml.c_nvmlFieldValue_t * len(ids)
        self.blank = self.kind()
        for place, number in zip(self.blank, ids, strict=True):
            place.fieldId = number

    def of(self, handle: Any) -> Mapping[int, float]:
        """Those that the card has, by id.

        Raises:
            NVMLError: one of them cannot be read, and not because card or driver lack it.
        """
        told = ask(self._filled, handle) or ()
        values = ((value.fieldId, _of(value)) for value in told if _is_there(value.nvmlReturn))
        return {number: value for number, value in values if value not in SENTINELS}

    def _filled(self, handle: Any) -> Any:
        told = self.kind.from_buffer_copy(self.blank)
        checked(function("nvmlDeviceGetFieldValues")(handle, len(told), told))
        return told


def _is_there(answer: int) -> bool:
    return answer not in UNKNOWN_ARGUMENT and checked(answer)


def _of(value: Any) -> float:
    kind = VALUE_FIELDS[value.valueType] if value.valueType < len(VALUE_FIELDS) else "ullVal"
    found: float = getattr(value.value, kind)
    return found
