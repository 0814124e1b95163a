"""The scheduler, and the gRPC service around it."""
