"""HTTP/2 and gRPC without I/O: bytes in, events out; replies in, bytes out. Knows nothing of ours."""
