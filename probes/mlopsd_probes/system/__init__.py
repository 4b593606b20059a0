"""The system probe: the resources of the host."""
