"""What an operator sees: health, metrics, logs, traces."""
