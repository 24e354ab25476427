"""One call, from admission to settlement; knows nothing of gRPC."""
