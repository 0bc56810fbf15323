"""A server that speaks Qdrant's REST and gRPC over Qdrant's own engine, for tests and benchmarks.

The engine is real (`qdrant-edge-py`: the segments, HNSW, payload indexes, filters, quantization,
fusion, formulas and write-ahead log of the Qdrant server, in this process). Everything around it
is written here, so this is *not* the Qdrant server, and passing against it must never be reported
as "tested against a Qdrant server". What differs:

- No actix and no tonic: no compression, no 32 MB limit on a request, no TLS, no CORS, no JWT and
  no read-only key (one key opens everything), no `usage` or hardware counters, no telemetry or
  metrics, no strict mode, no rate limits; paths are split and decoded by a few lines of our own.
- One shard in one process: no cluster, shard keys, replicas, consistency or ordering (accepted,
  ignored), no snapshots, no issues, no web interface.
- Nothing happens in the background: an update is applied before the answer whatever `wait` says,
  and HNSW exists only after `PATCH /collections/{name}` asked for it, which answers when the
  graph is built. Until then a search is exact.
- No inference: Document, Image and InferenceObject are refused.
- Computed in front of the engine: ids to vectors, the average of a recommendation, groups,
  distance matrices, aliases. Errors use the server's words where they are known to us.
- One thread: requests are answered one at a time, and the engine never releases the GIL.

``tests.support.qdrant.process.running_server`` starts one; set ``QDRANT_URL`` to run the same
tests against a real server (deploy/compose.yaml).
"""
