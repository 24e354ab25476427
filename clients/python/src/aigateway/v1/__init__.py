"""Generated code of the contract aigateway.v1. Never edited: see proto/."""
