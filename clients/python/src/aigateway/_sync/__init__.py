# Made from _async by tools/make_sync.py: edit there, then run it.
"""Made from _async."""
