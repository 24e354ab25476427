"""Python client of AI Gateway."""
