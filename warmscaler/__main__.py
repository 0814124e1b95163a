"""`python -m warmscaler` is the command `scaler`."""

from warmscaler.cli.main import main

main()
