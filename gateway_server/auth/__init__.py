"""Who calls: API keys, scopes, and what each may do."""
