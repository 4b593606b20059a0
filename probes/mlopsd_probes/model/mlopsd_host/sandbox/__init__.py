"""What the model's process gives up before it loads a model."""
