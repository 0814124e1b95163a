"""The one command, `scaler`, and its subcommands."""

import os

# gRPC's own lines go past our log: one for each failed handshake of any caller, one beside ours for
# a port in use. It reads these when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# The thread that hands gRPC's events to asyncio then reads its sockets too, where else threads of
# their own do and wake it for each call: about a sixth less CPU for a request, see docs/faults.md.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
