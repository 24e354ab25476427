"""The server of AI Gateway."""
