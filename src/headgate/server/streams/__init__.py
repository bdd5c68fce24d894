"""Streams that go on where a connection broke off.

A resumable answer goes through a `KeptStream`: its events are numbered and held, and whoever listens (the
original caller first) is written what it has not seen. `StreamBook` has all of one server; `StreamArchive`
writes them to a shared store, where other processes find them.
"""

from headgate.server.streams.book import StreamBook

__all__ = ["StreamBook"]
