"""What the daemon is measured beside: a service as one would write it first, and the machine's limit."""
