"""The GPU probe: the health of this host's NVIDIA GPUs, read by NVML."""
