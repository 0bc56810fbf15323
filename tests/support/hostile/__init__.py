"""Hostile HTTP/1.1: requests made to break or fool a proxy, and a judge of what it did."""
