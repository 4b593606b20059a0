"""The GPU probe: whether the NVIDIA GPUs of this host can do their work, as NVML tells."""
