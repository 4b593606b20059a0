"""The training of ``mlopsd demo``, in a process of its own: ``python -m mlopsd_probes.model.demo``."""
