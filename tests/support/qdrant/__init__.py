"""A server that speaks Qdrant's REST and gRPC over Qdrant's own engine, for tests and benchmarks.

The engine is real (`qdrant-edge-py`: the segments, payload indexes, filters, fusion and formulas of
the Qdrant server, in this process). Everything around it is written here, so this is *not* the
Qdrant server, and passing against it must never be reported as "tested against a Qdrant server".
It does what the tests of the sidecar and the clients ask of Qdrant, and refuses the rest:

- Of the wire: no compression, no 32 MB limit on a request, no TLS, no CORS, no JWT and no read-only
  key (one key opens everything), no telemetry, strict mode or rate limits.
- One shard in one process, gone with it: consistency, ordering and shard keys are accepted and
  ignored; no snapshots. An update is applied before the answer, whatever `wait` says.
- Search is exact: there is no HNSW graph and no quantization, and parameters of a search that
  concern them change nothing.
- No inference, no lookups in other collections, no conditional updates, no geo conditions, no
  distance matrices, no change of a collection that exists. `errors.LACKING` names fields that are
  refused rather than ignored.
- Computed in front of the engine: ids to vectors, the average of a recommendation, groups,
  aliases. Errors use the server's words where they are known to us.
- One thread: requests are answered one at a time, and the engine never releases the GIL.

``tests.support.qdrant.process.running_server`` starts one; set ``QDRANT_URL`` to run the same
tests against a real server (deploy/compose.yaml).
"""
