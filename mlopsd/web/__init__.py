"""What the daemon says over HTTP: the board as answers, the few requests that act, and who may make them."""
