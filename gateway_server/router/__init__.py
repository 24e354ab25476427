"""Which targets a call may use, and in which order."""
