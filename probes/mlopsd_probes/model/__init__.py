"""The model probe: the registered model proves itself, serves, and is swapped without a gap."""
