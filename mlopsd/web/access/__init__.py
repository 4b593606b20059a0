"""Access: the rights of each caller."""
