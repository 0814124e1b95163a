"""The simulated platform, the virtual replay and the live replay client."""
