"""The model probe: verify a registered model, serve it, and replace it without a gap."""
