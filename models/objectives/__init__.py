"""What the learned policy is asked for, and the price that follows."""
