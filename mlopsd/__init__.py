"""Tells whether a GPU host can serve its registered model right now, and if not, what should be done."""
