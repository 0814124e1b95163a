"""Several scalers behind a real Envoy, one of them killed under load."""
