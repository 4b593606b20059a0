"""The model host process and the requests to it."""
