"""The client, written once: _sync is made from these modules by scripts/make_sync.py."""
