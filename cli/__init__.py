"""The one command, `scaler`, and its subcommands."""

import os

# gRPC's own lines, written past our log: a failed handshake of any caller's is one each. It reads
# this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
