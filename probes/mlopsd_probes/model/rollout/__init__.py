"""Roll a version out: decide, prepare, verify and switch."""
