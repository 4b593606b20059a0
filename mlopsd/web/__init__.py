"""The daemon over HTTP: the board as answers, the few requests that act, and who may make them."""
