"""What a call through the gateway costs, next to an empty RPC and a bare relay: docs/performance.md."""
