"""The rights that the model's process gives up before it loads a model."""
