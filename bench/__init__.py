"""What the daemon costs and how it behaves under bad probes, as figures: ``python -m bench [NAME…]``."""
