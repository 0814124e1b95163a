"""Clients of other makes against `scaler serve`: gRPC in three languages, Envoy, h2load, curl."""
