"""What is learned across apps of when the next use comes, from what is known of the moment."""
