"""The configuration: its schema, its sources, and the probes that it names."""
