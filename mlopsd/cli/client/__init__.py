"""Find and ask a running daemon."""
