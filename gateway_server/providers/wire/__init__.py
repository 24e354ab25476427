"""Wire formats: pure functions between the contract's messages and a provider's bodies; no I/O, no URLs."""
