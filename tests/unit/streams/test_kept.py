"""One kept stream: who gets what, what is held, who waits for whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headgate.core.errors import InvalidRequest
from headgate.server.streams.kept import HIGH_WATER, OVERHEAD, Listener
from tests.unit.streams.shelf import Caller, Shelf, say, stream_on


def test_positions() -> None:
    shelf = Shelf()
    stream, _ = stream_on(shelf)
    first = Caller()
    stream.attach(first, 0, ())
    say(stream, 3)
    second, third, early = Caller(), Caller(), Caller()
    stream.attach(second, 1, ())
    stream.attach(third, 3, ())
    stream.attach(early, 4, ())  # it has the next one from elsewhere already
    say(stream, 2)
    stream.end()
    assert first.numbers == [1, 2, 3, 4, 5]
    assert second.numbers == [2, 3, 4, 5]
    assert third.numbers == [4, 5]
    assert early.numbers == [5]
    assert {each.end_seen for each in (first, second, third, early)} == {"end"}
    late = Caller()
    stream.attach(late, 4, ())
    assert (late.numbers, late.end_seen) == ([5], "end")


def test_comments_go_to_those_who_listen_and_are_not_kept() -> None:
    stream, _ = stream_on(Shelf())
    caller = Caller()
    stream.attach(caller, 0, ())
    stream.feed(b": ping\n\n")
    assert caller.got == b": ping\n"
    stream.feed(b"data: x\n\n: pong\n\n")
    assert caller.got == b": ping\ndata: x\nid: str-abc:1\n\n: pong\n"
    late = Caller()
    stream.attach(late, 0, ())
    assert late.got == b"data: x\nid: str-abc:1\n\n"


def test_an_end_without_a_blank_line() -> None:
    stream, _ = stream_on(Shelf())
    caller = Caller()
    stream.attach(caller, 0, ())
    stream.feed(b"data: x\n\ndata: y")
    stream.end()
    assert caller.got.endswith(b"data: y\nid: str-abc:2\n\n")


def test_the_oldest_go_once_everybody_has_them() -> None:
    shelf = Shelf()
    stream, source = stream_on(shelf, buffer=5000)
    stream.attach(Caller(), 0, ())
    say(stream, 200)
    assert source.flowing
    assert 4000 < stream.held <= 5000
    assert shelf.held == stream.held
    assert stream.first > 100
    assert stream.last == 200
    with pytest.raises(InvalidRequest, match=f"events {stream.first} to 200 are there") as gone:
        stream.attach(Caller(), stream.first - 2, ())
    assert (gone.value.status, gone.value.code) == (410, "stream_expired")
    there = Caller()
    stream.attach(there, stream.first - 1, ())
    assert there.numbers == list(range(stream.first, 201))


def test_one_event_larger_than_the_buffer_reaches_its_listener() -> None:
    stream, _ = stream_on(Shelf(), buffer=1000)
    caller = Caller()
    stream.attach(caller, 0, ())
    say(stream, 1, size=50_000)
    say(stream, 1)
    assert caller.numbers == [1, 2]
    assert stream.held <= 1000


def attach_slow(stream: Any, caller: Caller) -> Listener:
    """A caller that says when it is full."""
    listener: Listener = stream.attach(caller, 0, ())
    caller.pause = listener.pause
    return listener


def test_a_full_listener_holds_the_source_up_and_gets_the_rest_later() -> None:
    stream, source = stream_on(Shelf())
    caller = Caller(room=1)
    listener = attach_slow(stream, caller)
    say(stream, 1)
    assert listener.full
    assert source.flowing  # what may wait is not much yet
    while source.flowing:
        say(stream, 1, size=1000)
    waiting = stream.last - 1
    assert HIGH_WATER <= waiting * 1050 < HIGH_WATER * 1.1
    assert caller.numbers == [1]
    caller.room = 2
    listener.resume()
    assert listener.full
    assert len(caller.numbers) > 50
    caller.room = 10**9
    listener.resume()
    assert source.flowing
    stream.end()
    assert caller.numbers == list(range(1, stream.last + 1))
    assert caller.end_seen == "end"


def test_one_with_room_is_enough_for_the_source() -> None:
    stream, source = stream_on(Shelf())
    slow = Caller(room=1)
    listener = attach_slow(stream, slow)
    stream.attach(quick := Caller(), 0, ())
    say(stream, 1000, size=1000)
    assert source.flowing
    stream.end()
    assert quick.end_seen == "end"
    assert slow.end_seen == ""
    slow.room = 10**9
    listener.resume()
    assert slow.numbers == quick.numbers == list(range(1, 1001))
    assert slow.end_seen == "end"


def test_a_dead_connection_does_not_hold_up_the_one_that_came_in_its_place() -> None:
    stream, source = stream_on(Shelf(), buffer=100_000)
    dead = Caller(room=1)
    attach_slow(stream, dead)
    while source.flowing:
        say(stream, 1, size=1000)
    alive = Caller()
    stream.attach(alive, 1, ())
    say(stream, 500, size=1000)
    assert source.flowing
    assert dead.end_seen == "abort"
    assert alive.numbers == list(range(2, stream.last + 1))
    assert stream.held <= 100_000


def test_nobody_listens_and_it_is_full() -> None:
    shelf = Shelf()
    stream, source = stream_on(shelf, buffer=5000, grace=60.0)
    listener = stream.attach(Caller(), 0, ())
    say(stream, 2)
    listener.cancel()
    assert source.flowing
    while source.flowing:
        say(stream, 1)
    assert stream.first == 1
    assert 5000 <= stream.held < 5000 + 200
    back = Caller()
    stream.attach(back, 2, ())
    assert source.flowing
    say(stream, 1)
    assert back.numbers == list(range(3, stream.last + 1))
    shelf.clock.turn(1000.0)
    assert shelf.told == []


def test_the_grace_begins_when_the_last_one_leaves() -> None:
    shelf = Shelf()
    stream, source = stream_on(shelf, grace=60.0, keep=300.0)
    first, second = (stream.attach(Caller(), 0, ()) for _ in range(2))
    say(stream, 1)
    first.cancel()
    shelf.clock.turn(100.0)
    second.cancel()
    second.cancel()
    shelf.clock.turn(59.0)
    third = stream.attach(Caller(), 0, ())
    shelf.clock.turn(100.0)
    third.cancel()
    shelf.clock.turn(59.0)
    assert source.ended == []
    shelf.clock.turn(1.0)
    assert [error.code for error in source.ended if error] == ["stream_abandoned"]
    assert stream.done
    late = Caller()
    stream.attach(late, 0, ())
    assert late.got.count(b"error stream_abandoned") == 1
    assert late.end_seen == "end"
    shelf.clock.turn(299.0)
    assert shelf.told == ["alone", "end"]
    shelf.clock.turn(1.0)
    assert shelf.told == ["alone", "end", "expiry"]
    assert (shelf.held, shelf.clock.pending) == (0, 0)


def test_somebody_elsewhere_has_it_go_on() -> None:
    shelf = Shelf()
    stream, source = stream_on(shelf, buffer=5000, grace=60.0)
    stream.attach(Caller(), 0, ()).cancel()
    while source.flowing:
        say(stream, 1)
    last = stream.last
    stream.wait_on()
    shelf.clock.turn(59.0)
    stream.wait_on()
    shelf.clock.turn(59.0)
    assert source.ended == []
    stream.heard(last - 1)
    assert source.flowing
    assert stream.first == last
    stream.heard(last)  # not full any more: it is kept
    assert stream.first == last


def test_a_slow_listener_is_not_cut_by_the_end_of_keeping() -> None:
    shelf = Shelf()
    stream, _ = stream_on(shelf, keep=10.0)
    caller = Caller(room=1)
    listener = attach_slow(stream, caller)
    say(stream, 5)
    stream.end()
    shelf.clock.turn(10.0)
    assert shelf.told == ["end"]
    caller.room = 100
    listener.resume()
    assert (caller.numbers, caller.end_seen) == ([1, 2, 3, 4, 5], "end")
    shelf.clock.turn(10.0)
    assert shelf.told == ["end", "expiry"]


def test_all_streams_together_are_too_large() -> None:
    shelf = Shelf()
    stream, source = stream_on(shelf)
    caller = Caller()
    listener = stream.attach(caller, 0, ())
    say(stream, 100)
    shelf.most = shelf.held
    say(stream, 1)
    assert stream.first > 40  # what has been heard goes
    assert source.flowing
    listener.cancel()
    shelf.most = 0
    say(stream, 1)
    assert not source.flowing
    stream.attach(Caller(), stream.last, ())
    assert source.flowing


def test_an_endless_event_ends_it() -> None:
    shelf = Shelf()
    stream, source = stream_on(shelf)
    stream._splitter.limit = 1000
    caller = Caller()
    stream.attach(caller, 0, ())
    say(stream, 1)
    stream.feed(b"data: " + b"x" * 2000)
    assert source.ended == []  # not from within what feeds it
    shelf.clock.turn()
    assert [error.code for error in source.ended if error] == ["upstream_event_too_large"]
    assert caller.end_seen == "end"


def test_what_is_cut_is_cut_for_everybody() -> None:
    stream, _ = stream_on(Shelf())
    stream.attach(before := Caller(), 0, ())
    say(stream, 2)
    stream.abort()
    stream.attach(after := Caller(), 0, ())
    assert before.numbers == after.numbers == [1, 2]
    assert (before.end_seen, after.end_seen) == ("abort", "abort")


def test_released() -> None:
    shelf = Shelf()
    stream, _ = stream_on(shelf)
    slow = Caller(room=1)
    attach_slow(stream, slow)
    say(stream, 3)
    stream.end()
    stream.release()
    assert slow.end_seen == "abort"
    assert (shelf.held, stream.held, shelf.clock.pending) == (0, 0, 0)
    with pytest.raises(InvalidRequest, match="none is there"):
        stream.attach(Caller(), 0, ())


class Listening(RuleBasedStateMachine):
    """Callers come, are slow, leave and come back at any time: each gets every event once, in order."""

    @initialize()
    def open(self) -> None:
        self.shelf = Shelf()
        self.stream, self.source = stream_on(self.shelf, buffer=3000, grace=50.0)
        self.callers: list[tuple[Caller, Listener, int]] = []

    @rule(count=st.integers(1, 30), size=st.integers(0, 200))
    def speak(self, count: int, size: int) -> None:
        for _ in range(count):
            if self.source.flowing:
                say(self.stream, 1, size)

    @rule(room=st.integers(1, 5), back=st.integers(0, 10))
    def come(self, room: int, back: int) -> None:
        after = max(0, self.stream.last - back)
        caller = Caller(room)
        try:
            listener = self.stream.attach(caller, after, ())
        except InvalidRequest:
            assert after + 1 < self.stream.first
            return
        caller.pause = listener.pause
        self.callers.append((caller, listener, after))

    @rule(data=st.data(), room=st.integers(1, 5))
    def has_room(self, data: st.DataObject, room: int) -> None:
        if self.callers:
            caller, listener, _ = data.draw(st.sampled_from(self.callers))
            caller.room = room
            listener.resume()

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.callers:
            gone = data.draw(st.sampled_from(self.callers))
            gone[1].cancel()
            self.callers.remove(gone)

    @rule(seconds=st.floats(0.0, 40.0))
    def wait(self, seconds: float) -> None:
        self.shelf.clock.turn(seconds)

    @rule()
    def end(self) -> None:
        self.stream.end()

    @invariant()
    def each_has_what_it_should(self) -> None:
        for caller, listener, after in self.callers:
            assert caller.numbers == list(range(after + 1, after + 1 + len(caller.numbers)))
            if caller.end_seen == "end":
                assert caller.numbers[-1:] == [self.stream.last] or after >= self.stream.last
            elif not caller.end_seen and not listener.full:
                assert listener.position == max(self.stream.last, after) + 1

    @invariant()
    def it_is_bounded(self) -> None:
        assert self.shelf.held == self.stream.held >= 0
        assert self.stream.held < 3000 + HIGH_WATER
        roomy = [x for x in self.callers if not x[0].end_seen and not x[1].full]
        if roomy and not self.stream.done:
            assert self.source.flowing
            assert self.stream.held <= 3000 + 300 + OVERHEAD


Listening.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestListening = Listening.TestCase
