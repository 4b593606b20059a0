"""Faults on the whole daemon, in a seeded order, while an observer holds it to its promises."""
