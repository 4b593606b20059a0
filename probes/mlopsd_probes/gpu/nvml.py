"""Calls of NVML, and its error codes by meaning."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pynvml

T = TypeVar("T")

LACKING = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,  # the driver is older than the call
        pynvml.NVML_ERROR_NO_DATA,
        pynvml.NVML_ERROR_NOT_READY,
        pynvml.NVML_ERROR_DEPRECATED,
        pynvml.NVML_ERROR_FREQ_NOT_SUPPORTED,
        pynvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,  # the driver is older than the structure
    }
)  # this card or driver lacks the value: this is neither a fault nor a 0
UNKNOWN_ARGUMENT = LACKING | {pynvml.NVML_ERROR_INVALID_ARGUMENT}  # for calls that enumerate or take an enum
NO_SESSION = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    }
)  # every further call would fail too until NVML is initialised again
NO_CARD = frozenset(
    {
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_GPU_NOT_FOUND,
        pynvml.NVML_ERROR_INSUFFICIENT_POWER,
        pynvml.NVML_ERROR_IRQ_ISSUE,
        pynvml.NVML_ERROR_CORRUPTED_INFOROM,
    }
)  # this card answers no further call; other cards do
OF_THE_CALL = frozenset(range(1, pynvml.NVML_ERROR_UNKNOWN + 1)) - NO_SESSION - NO_CARD
NO_MODULE = frozenset({pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED})

SENTINELS = frozenset(
    {2**32 - 1, 2**64 - 1, *range(2**63 - 16, 2**63)}
)  # NVML_VALUE_NOT_AVAILABLE, DCGM's blanks
MOST = 2**63 - 17  # below the last sentinels; no counter comes near
VALUE_FIELDS = (
    "dVal",
    "uiVal",
    "ulVal",
    "ullVal",
    "sllVal",
    "siVal",
    "usVal",
)  # of nvmlValue_t, by nvmlValueType_t


def ask(call: Callable[..., T], *arguments: Any, lacking: frozenset[int] = LACKING) -> T | None:
    """Return the answer of *call*; None if this card or driver lacks it.

    Raises:
        NVMLError: any other error.
    """
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        if error.value in lacking:
            return None
        raise


def number(value: int | None, least: int = 0, most: int = MOST) -> int | None:
    """Return *value*; None if it is a sentinel or out of range."""
    if value is None or value in SENTINELS or not least <= value <= most:
        return None
    return value


def function(name: str) -> Any:
    """Return NVML's C function *name*; prefer pynvml's functions, which report more.

    Raises:
        NVMLError: the driver is older than the function.
    """
    return pynvml._nvmlGetFunctionPointer(name)  # noqa: SLF001  # it caches, and raises for an older driver


def checked(answer: int) -> bool:
    """Return true.

    Raises:
        NVMLError: *answer*, the result of a C function, is an error.
    """
    if answer != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(answer)
    return True


def text(value: str | bytes | None) -> str:
    """Return a string of NVML, which older bindings return as bytes; "" for None."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value or ""


def memory_of(handle: Any) -> Any:
    """Return ``nvmlMemory_t``, in its second version if the driver has it."""
    reported = ask(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    return reported if reported is not None else ask(pynvml.nvmlDeviceGetMemoryInfo, handle)


class Fields:
    """``nvmlDeviceGetFieldValues`` of the field *ids*.

    The array is laid out once: making its type again costs five times as much as the call.
    """

    def __init__(self, *ids: int) -> None:
        self._kind = pynvml.c_nvmlFieldValue_t * len(ids)
        self._blank = self._kind()
        for place, number in zip(self._blank, ids, strict=True):
            place.fieldId = number

    def of(self, handle: Any) -> Mapping[int, float]:
        """Return the values that the card has, by id.

        Raises:
            NVMLError: a value cannot be read, and neither card nor driver lacks it.
        """
        reported = ask(self._filled, handle) or ()
        values = ((value.fieldId, _of(value)) for value in reported if _is_there(value.nvmlReturn))
        return {number: value for number, value in values if value not in SENTINELS}

    def _filled(self, handle: Any) -> Any:
        reported = self._kind.from_buffer_copy(self._blank)
        call = function("nvmlDeviceGetFieldValues")
        checked(call(handle, len(reported), reported))
        return reported


def _is_there(answer: int) -> bool:
    return answer not in UNKNOWN_ARGUMENT and checked(answer)


def _of(value: Any) -> float:
    kind = VALUE_FIELDS[value.valueType] if value.valueType < len(VALUE_FIELDS) else "ullVal"
    found: float = getattr(value.value, kind)
    return found
