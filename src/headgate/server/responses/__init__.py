"""The stateful side of the Responses API: keep, continue, fetch, replay, cancel.

Where upstreams keep what they answer, `Origins` remembers whose it is and where, and `fetch` asks for it
there. Over any other upstream the state is emulated: `create` opens a draft for a request, sends the draft's
body on its way like any other request, and lets a `Run` read along with the answer::

    draft = await book.open(Asked(body), principal)     # history expanded, ids given
    run = await book.begin(draft)                       # if draft.store
    client = RecordingClient(client, run)               # or DetachedClient(run) for draft.background

`draft.dialect` encodes the answer with the draft's id and what the response repeats of its request.
"""

from headgate.server.responses.book import ResponseBook
from headgate.server.responses.clients import DetachedClient, RecordedCall, RecordingClient
from headgate.server.responses.draft import Asked, Draft
from headgate.server.responses.run import Run

__all__ = ["Asked", "DetachedClient", "Draft", "RecordedCall", "RecordingClient", "ResponseBook", "Run"]
