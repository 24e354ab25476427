"""The ledger: what each call and attempt used and cost."""
