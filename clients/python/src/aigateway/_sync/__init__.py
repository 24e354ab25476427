# Made from _async by tools/make_sync.py: edit there, then run it.
"""The client that blocks, made from _async."""
