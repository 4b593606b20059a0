"""The system probe: whether the host has what its work needs."""
