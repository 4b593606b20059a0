"""The place where a check runs: on the event loop, in a thread of its own, or in a process of its own."""
