"""The gRPC front door: servicers, interceptors and the mapping of failures to statuses."""
