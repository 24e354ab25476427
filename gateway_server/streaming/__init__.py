"""Numbering parts and folding a stream into its whole answer."""
