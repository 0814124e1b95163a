"""Looking at apps whose replicas are wanted: what Prometheus says of them, and the floor that follows."""
