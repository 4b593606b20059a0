"""The workers of probes: on the event loop, in a thread or in a process."""
