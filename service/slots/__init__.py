"""The life of a slot: a state machine without I/O."""
