"""A rival: the barest gRPC pass-through in grpc.aio, the library that the sidecar uses.

Bytes in, bytes out: no message is read. It passes on the caller's metadata and deadline, and the
upstream's status, as no proxy could do without. On uvloop, which saves it some processor time.
"""

import argparse
import sys

import grpc
import grpc.aio
import uvloop

_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
_OWN = "user-agent"  # grpc sets this itself


class Forwarder(grpc.GenericRpcHandler):
    """Sends every unary call on."""

    def __init__(self, upstream: str) -> None:
        """Connect, lazily."""
        self.channel = grpc.aio.insecure_channel(upstream, options=_OPTIONS)
        self.handlers: dict[str, grpc.RpcMethodHandler] = {}

    def service(self, call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Give the method's handler, made once."""
        method = call_details.method
        if method not in self.handlers:
            self.handlers[method] = self.handler(method)
        return self.handlers[method]

    def handler(self, method: str) -> grpc.RpcMethodHandler:
        """Make a handler that forwards one method."""
        ask = self.channel.unary_unary(method)

        async def forward(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            metadata = [pair for pair in context.invocation_metadata() if pair[0] != _OWN]
            try:
                return await ask(request, metadata=metadata, timeout=context.time_remaining())
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details())

        return grpc.unary_unary_rpc_method_handler(forward)


async def serve(port: int, upstream: str) -> None:
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers([Forwarder(upstream)])
    if not server.add_insecure_port(f"127.0.0.1:{port}"):
        sys.exit(f"can't listen on port {port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.upstream))


if __name__ == "__main__":
    main()
