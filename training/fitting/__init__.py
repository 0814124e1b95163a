"""From a trace to a model."""
