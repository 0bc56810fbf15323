"""The load generator: a process of its own, which times slices of requests in a closed loop.

``python -m benchmarks.proxy.load`` reads one JSON object a line (``{"name", "port", "requests",
"warm_up"}``), sends that many requests to that port, and writes one line back: a :class:`Slice`.
REST goes over raw blocking sockets, and over epoll where there are several; gRPC over grpcio's
synchronous stub, with a thread and a channel for each connection. Requests are bytes made
beforehand. Connections stay open from slice to slice.
"""

import argparse
import gc
import json
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.proxy.processes import HOST
from benchmarks.proxy.queries import GRPC_METHOD, LIMIT, REST_PATH, grpc_bodies, rest_bodies

_TIMEOUT_S = 10
_BUFFER_BYTES = 256 * 1024
_SHORTEST_ANSWER = 200  # bytes of a gRPC answer with ten points and payloads


@dataclass
class Slice:
    """What came of one slice."""

    latencies_us: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    failures: int = 0
    why: str = ""
    sent: int = 0  # with those of the warm-up and of the end, which are not timed

    def fail(self, why: object) -> None:
        """Count a failure; the first says why."""
        self.failures += 1
        self.why = self.why or str(why)


class Connection:
    """One kept-alive HTTP connection."""

    def __init__(self, port: int) -> None:
        """Connect."""
        self.port = port
        self.buffer = bytearray(_BUFFER_BYTES)
        self.view = memoryview(self.buffer)
        self.connect()

    def connect(self) -> None:
        """Open it anew. The kernel keeps the time limit: Python's own would cost a poll a call."""
        self.socket = socket.create_connection((HOST, self.port), _TIMEOUT_S)
        self.socket.setblocking(True)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        limit = struct.pack("ll", _TIMEOUT_S, 0)
        for side in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, side, limit)
        self.filled, self.wanted = 0, 0

    def refresh(self) -> bool:
        """Connect again where the other side closed the idle connection, as it may.

        Returns:
            False where something was sent that nobody asked for.
        """
        try:
            closed = self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return True
        except OSError:
            closed = True
        self.reopen()
        return closed

    def reopen(self) -> None:
        """Give this connection up for a new one."""
        self.socket.close()
        self.connect()

    def send(self, request: bytes) -> None:
        """Send a request and start its clock."""
        self.filled, self.wanted = 0, 0
        self.started = time.perf_counter_ns()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Read once; tell whether the answer is whole."""
        size = self.socket.recv_into(self.view[self.filled :])
        if not size:
            raise ConnectionResetError("the connection was closed before the answer's end")
        self.filled += size
        if not self.wanted:
            end = self.buffer.find(b"\r\n\r\n", 0, self.filled)
            if end < 0:
                return False
            self.wanted = end + 4 + _content_length(bytes(self.buffer[:end]))
        return self.filled >= self.wanted

    def took_us(self) -> float:
        """Stop the clock."""
        return (time.perf_counter_ns() - self.started) / 1000

    def problem(self) -> str:
        """Say what is wrong with the answer; empty for nothing."""
        if not self.buffer.startswith(b"HTTP/1.1 200"):
            return bytes(self.buffer[: self.wanted]).decode("latin-1")[:300]
        n_points = self.buffer.count(b'"score"', 0, self.wanted)
        return "" if n_points == LIMIT else f"an answer with {n_points} points"


def _content_length(head: bytes) -> int:
    """Read the length of an answer's body."""
    _, found, value = head.lower().partition(b"\r\ncontent-length:")
    if not found:
        raise ValueError(f"an answer without content-length: {head[:300]!r}")
    return int(value.split(b"\r\n", 1)[0])


class RestClient:
    """Connections that are served by this one thread."""

    def __init__(self, port: int, n_connections: int, dim: int) -> None:
        """Connect, and write the requests."""
        self.connections = [Connection(port) for _ in range(n_connections)]
        self.requests = [_http_request(port, body) for body in rest_bodies(dim)]
        self.sent = 0

    def run(self, requests: int, warm_up: int) -> Slice:
        """Send requests one after another, or as answers come in."""
        unasked = sum(not connection.refresh() for connection in self.connections)
        if len(self.connections) == 1:
            found = self._run_one(requests, warm_up)
        else:
            found = self._run_all_or_fail(requests, warm_up)
        if unasked:
            found.fail(f"{unasked} connections held bytes that nobody asked for")
        return found

    def _next(self) -> bytes:
        """Take the next request in turn."""
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]

    def _run_one(self, requests: int, warm_up: int) -> Slice:
        """Wait for each answer on the one connection."""
        found, connection, began = Slice(sent=warm_up + requests), self.connections[0], 0
        for turn in range(warm_up + requests):
            if turn == warm_up:
                found.latencies_us.clear()
                began = time.perf_counter_ns()
            try:
                connection.send(self._next())
                while not connection.receive():
                    pass
            except (OSError, ValueError) as error:
                found.fail(error)
                connection.reopen()
                continue
            self._book(connection, found)
        found.wall_s = (time.perf_counter_ns() - began) / 1e9
        return found

    def _run_all_or_fail(self, requests: int, warm_up: int) -> Slice:
        """Count the whole slice as failed where a connection broke."""
        try:
            return self._run_all(requests, warm_up)
        except (OSError, ValueError) as error:
            for connection in self.connections:
                connection.reopen()
            return Slice(failures=requests, why=str(error), sent=requests + warm_up)

    def _run_all(self, requests: int, warm_up: int) -> Slice:
        """Keep every connection busy until enough answers are in, then let the rest end."""
        wanted, busy = warm_up + requests, len(self.connections)
        found, done, began = Slice(sent=wanted + busy), 0, 0
        poll = select.epoll()
        by_number = {one.socket.fileno(): one for one in self.connections}
        for number, connection in by_number.items():
            poll.register(number, select.EPOLLIN)
            connection.send(self._next())
        while busy:
            events = poll.poll(_TIMEOUT_S)
            if not events:
                raise TimeoutError(f"{busy} requests without an answer for {_TIMEOUT_S} s")
            for number, _ in events:
                connection = by_number[number]
                if not connection.receive():
                    continue
                if done < wanted:
                    self._book(connection, found)
                    connection.send(self._next())
                else:
                    busy -= 1
                done += 1
                if done == warm_up:
                    found.latencies_us.clear()
                    began = time.perf_counter_ns()
                elif done == wanted:
                    found.wall_s = (time.perf_counter_ns() - began) / 1e9
        poll.close()
        return found

    @staticmethod
    def _book(connection: Connection, found: Slice) -> None:
        """Note one whole answer."""
        took_us = connection.took_us()
        problem = connection.problem()
        if problem:
            found.fail(problem)
        else:
            found.latencies_us.append(took_us)


def _http_request(port: int, body: bytes) -> bytes:
    """Write a request with the header fields that Qdrant's own client sends."""
    head = (
        f"POST {REST_PATH} HTTP/1.1\r\nHost: {HOST}:{port}\r\nAccept: */*\r\n"
        "Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
        "User-Agent: qdrant-client/1.20.0\r\n"
        f"Content-Length: {len(body)}\r\nContent-Type: application/json\r\n\r\n"
    )
    return head.encode() + body


class GrpcClient:
    """A thread and a channel for each connection."""

    def __init__(self, port: int, n_connections: int, dim: int) -> None:
        """Make the channels, each with a connection of its own."""
        import grpc

        options = (
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
        )
        self.error = grpc.RpcError
        channels = [grpc.insecure_channel(f"{HOST}:{port}", options) for _ in range(n_connections)]
        self.stubs: list[Callable[..., bytes]] = [one.unary_unary(GRPC_METHOD) for one in channels]
        self.requests = grpc_bodies(dim)

    def run(self, requests: int, warm_up: int) -> Slice:
        """Let the threads share the requests."""
        n_threads = len(self.stubs)
        share, warm_share = -(-requests // n_threads), -(-warm_up // n_threads)
        slices = [Slice() for _ in range(n_threads)]
        began: list[int] = []
        barrier = threading.Barrier(n_threads, lambda: began.append(time.perf_counter_ns()))

        def work(number: int) -> None:
            self._ask(number, range(warm_share), slices[number])
            slices[number].latencies_us.clear()
            barrier.wait()
            self._ask(number, range(share), slices[number])

        others = [threading.Thread(target=work, args=(one,)) for one in range(1, n_threads)]
        for thread in others:
            thread.start()
        work(0)
        for thread in others:
            thread.join()
        wall_s = (time.perf_counter_ns() - began[0]) / 1e9
        return _joined(slices, wall_s, n_threads * (share + warm_share))

    def _ask(self, number: int, turns: range, found: Slice) -> None:
        """Send requests over one channel, one after another."""
        ask, requests = self.stubs[number], self.requests
        for turn in turns:
            body = requests[(number + turn) % len(requests)]
            began = time.perf_counter_ns()
            try:
                answer = ask(body, timeout=_TIMEOUT_S)
            except self.error as error:
                found.fail(error)
                continue
            took_us = (time.perf_counter_ns() - began) / 1000
            if len(answer) < _SHORTEST_ANSWER:
                found.fail(f"an answer of {len(answer)} bytes")
            else:
                found.latencies_us.append(took_us)


def _joined(slices: Sequence[Slice], wall_s: float, sent: int) -> Slice:
    """Put the threads' parts together."""
    return Slice(
        [took_us for one in slices for took_us in one.latencies_us],
        wall_s,
        sum(one.failures for one in slices),
        next((one.why for one in slices if one.why), ""),
        sent,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", choices=("rest", "grpc"), required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--dim", type=int, required=True)
    options = parser.parse_args()
    make = RestClient if options.protocol == "rest" else GrpcClient
    clients: dict[str, RestClient | GrpcClient] = {}
    gc.disable()
    for line in sys.stdin:
        wanted = json.loads(line)
        name = wanted["name"]
        if name not in clients:
            clients[name] = make(wanted["port"], options.connections, options.dim)
        found = clients[name].run(wanted["requests"], wanted["warm_up"])
        sys.stdout.write(json.dumps(vars(found)) + "\n")
        sys.stdout.flush()
        gc.collect()


if __name__ == "__main__":
    main()
