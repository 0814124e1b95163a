"""The one command, `scaler`, and its subcommands."""

import os

# gRPC's own lines go past our log: one for each failed handshake of any caller, one beside ours for
# a port in use. It reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
