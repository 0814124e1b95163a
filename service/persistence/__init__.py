"""What outlives a process: the slots' ledger, the recording, what was learned, the model in service."""
