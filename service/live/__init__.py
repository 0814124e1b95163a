"""The scheduler on a real clock and a real platform."""
