"""One of the model's own modules."""

OWN = 100.0
