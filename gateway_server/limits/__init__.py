"""How much a caller may use: rates, concurrency and money."""
