"""Recognise exceptions that this host causes, so that the version is not at fault."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

SHORT = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
BROKEN = (errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.EUCLEAN, errno.EBADMSG)
# Libraries in C and C++ raise one class for all errors, so only the text shows a shortage.
MEMORY_PHRASES = (
    *("out of memory", "bad_alloc", "can't allocate memory", "failed to allocate memory"),
    *("oom when allocating", "status_alloc_failed"),
)
THREAD_PHRASES = ("can't start new thread", "thread creation failed", "pthread_create")
CLASSES_OF_GPUS = re.compile(r"(CUDA|Cuda|CUDNN|CUBLAS|NCCL|NVML|DeferredCuda|Accelerator)\w*Error")
GPU_PHRASES = (
    *("No CUDA GPUs are available", "unspecified launch failure", "CUDA-capable device"),
    *("CUDA error", "CUDA runtime error", "CUDA driver", "CUDA failure", "CUDA initialization", "cudaError"),
    *("CUDA_ERROR_", "CUDNN_STATUS_", "CUBLAS_STATUS_", "cuDNN error", "cuBLAS error", "NCCL error"),
    *("NVIDIA driver", "invalid device ordinal"),
    *("torch.cuda.is_available() is False", "torch.cuda.device_count() is"),
)
OF_A_MODEL = "device-side assert"  # an index out of range in the model's own kernel, reported as a CUDA error

HostFault = tuple[str, str]


def host_fault(error: BaseException) -> HostFault | None:
    """Return the kind and a short text if *error*, or one of its causes, is a fault of this host.

    The kinds are ``out_of_memory``, ``scarce``, ``io_error``, ``gpu`` and ``signal``. The text does not quote
    the exception, which may quote a request.
    """
    chain = list(_chain(error))
    for judge in (_of_memory, _of_errno, _of_text, _of_gpu, _of_interrupt):
        for cause in chain:
            if (fault := judge(cause)) is not None:
                return fault
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and all its causes and contexts, outermost first."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is not None and not any(one is before for before in seen):
            seen.append(one)
            yield one
            waiting += [one.__cause__, one.__context__]


def _of_memory(error: BaseException) -> HostFault | None:
    """Return the fault if memory is short, by the class (GPU libraries) or the text (others)."""
    classes = any("OutOfMemory" in kind.__name__ for kind in type(error).__mro__)
    if isinstance(error, MemoryError) or classes or _first(MEMORY_PHRASES, error) is not None:
        return "out_of_memory", f"not enough memory ({type(error).__name__})"
    return None


def _of_errno(error: BaseException) -> HostFault | None:
    if not isinstance(error, OSError) or error.errno is None:
        return None
    return _of_number(error.errno)


def _of_number(number: int) -> HostFault | None:
    if number in SHORT:
        return "scarce", os.strerror(number)
    return ("io_error", os.strerror(number)) if number in BROKEN else None


def _of_text(error: BaseException) -> HostFault | None:
    if (phrase := _first(THREAD_PHRASES, error)) is not None:
        return "scarce", phrase
    text = _text(error)
    return next((_of_number(number) for number in (*SHORT, *BROKEN) if os.strerror(number) in text), None)


def _of_gpu(error: BaseException) -> HostFault | None:
    if OF_A_MODEL in _text(error):
        return None
    if (phrase := _first(GPU_PHRASES, error)) is not None:
        return "gpu", f"the GPU's library says {phrase!r}"
    kind = next((kind.__name__ for kind in type(error).__mro__ if CLASSES_OF_GPUS.match(kind.__name__)), None)
    return None if kind is None else ("gpu", f"the GPU's library raised {kind}")


def _of_interrupt(error: BaseException) -> HostFault | None:
    return ("signal", "SIGINT came") if isinstance(error, KeyboardInterrupt) else None


def _first(phrases: tuple[str, ...], error: BaseException) -> str | None:
    """Return the first of *phrases* in the text of *error*, ignoring case."""
    text = _text(error).lower()
    return next((phrase for phrase in phrases if phrase.lower() in text), None)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # a third-party __str__
        return ""
