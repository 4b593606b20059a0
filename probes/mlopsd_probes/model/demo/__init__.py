"""What ``mlopsd demo`` trains, in a process of its own: ``python -m mlopsd_probes.model.demo``."""
