"""What the client promises, as one list of scenarios; _sync is made from it by tools/make_sync.py."""
