"""Child processes: their start, their channel and their end."""
