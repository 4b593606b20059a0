"""The HTTP API: its responses and their OpenAPI description."""
