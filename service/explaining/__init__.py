"""Why an app is up or down: its account, for people."""
