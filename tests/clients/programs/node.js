// The client of @grpc/grpc-js: see __init__.py.
"use strict";
const grpc = require("@grpc/grpc-js");
const lines = require("readline").createInterface({ input: process.stdin });

const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());
const bytes = (message) => message;
const calls = new Map();

function call(said) {
  const metadata = new grpc.Metadata();
  for (const [key, value] of Object.entries(said.headers)) metadata.set(key, value);
  const options = {};
  if (said.timeout_ms !== undefined) options.deadline = Date.now() + said.timeout_ms;
  let headers = {};
  const message = Buffer.from(said.message, "base64");
  const started = client.makeUnaryRequest(
    said.path, bytes, bytes, message, metadata, options, (error, answer) => {
      calls.delete(said.id);
      console.log(JSON.stringify({
        id: said.id,
        code: error ? error.code : 0,
        text: error ? error.details : "",
        message: answer ? answer.toString("base64") : "",
        headers,
      }));
    });
  started.on("metadata", (came) => { headers = came.getMap(); });
  calls.set(said.id, started);
}

lines.on("line", (line) => {
  const said = JSON.parse(line);
  if (said.cancel) calls.get(said.id)?.cancel();
  else call(said);
});
lines.on("close", () => client.close());
