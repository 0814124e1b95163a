"""gRPC clients, one a library, each with the same lines of JSON in and out.

In, a call or the end of one; `timeout_ms` is left out where it has no deadline:

    {"id": 1, "path": "/package.Service/Method", "message": BASE64, "headers": {}, "timeout_ms": 300}
    {"id": 1, "cancel": true}

Out, how it ended: gRPC's code and text, the answer, and the headers before it:

    {"id": 1, "code": 0, "text": "", "message": BASE64, "headers": {}}

The address comes on the command line; there is one channel, and the end of the input ends it.
"""
