"""The training of ``mlopsd demo``, run as ``python -m mlopsd_probes.model.demo``."""
