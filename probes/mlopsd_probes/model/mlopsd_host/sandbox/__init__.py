"""The privileges that the model's process drops before it loads a model."""
