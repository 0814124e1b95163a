"""Random and mutated messages at the port of a real scaler: `make fuzz`."""
