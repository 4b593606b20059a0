"""Probes for what a GPU host leans on."""
