"""Versions on the local disk."""
