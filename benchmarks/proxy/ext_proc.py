"""A rival: an external processor for Envoy in Python, which adapts the query in a request's body.

Given every advantage that we know of: grpcio's synchronous server (faster here than its asyncio
one), a Unix socket, orjson, the same adapter class as the sidecar, and bodies alone (Envoy neither
sends it the headers nor waits for it on the way back).
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson

from benchmarks.proxy.ext_proc_messages import METHOD, SERVICE, message_classes
from trimtab.model.adapter import Adapter

_THREADS = 32


class Processor:
    """Answers Envoy's streams, one for each HTTP request."""

    def __init__(self, adapter: Adapter) -> None:
        """Keep the adapter at hand."""
        self.adapter = adapter
        found = message_classes()
        self.read = found["ProcessingRequest"].FromString
        self.answer = found["ProcessingResponse"]

    def process(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Replace each body that comes."""
        for request in requests:
            answer = self.answer()
            answer.request_body.response.body_mutation.body = self.adapt(request.request_body.body)
            yield answer.SerializeToString()

    def adapt(self, body: bytes) -> bytes:
        """Put the adapted query in the query's place."""
        content = orjson.loads(body)
        content["query"] = self.adapter.transform(np.array(content["query"], dtype=np.float32))
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    options = parser.parse_args()
    processor = Processor(Adapter.load(options.model))
    server = grpc.server(ThreadPoolExecutor(_THREADS))
    handler = grpc.stream_stream_rpc_method_handler(
        processor.process, request_deserializer=processor.read, response_serializer=None
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})]
    )
    if not server.add_insecure_port(f"unix:{options.socket}"):
        sys.exit(f"can't listen on {options.socket}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
