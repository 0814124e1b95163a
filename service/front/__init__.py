"""What callers reach: the gRPC server, its TLS and health checks."""
