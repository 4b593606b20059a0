"""Simulated GPUs: a library in C that is loaded as NVML and answers from a scenario file."""
