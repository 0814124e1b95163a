"""A new model from a recording, promoted if it would have done better."""
