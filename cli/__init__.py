"""The one command, `scaler`, and its subcommands."""
