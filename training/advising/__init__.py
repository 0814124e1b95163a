"""What a fleet's settings should be, and what they would save: worked out by replays of its trace."""
