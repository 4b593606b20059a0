"""Child processes: start, talk to and end them."""
