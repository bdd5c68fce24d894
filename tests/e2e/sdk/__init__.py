"""The official SDKs against a running server, before upstreams of every dialect."""

import warnings

with warnings.catch_warnings():
    # Python complains of its docstrings when it compiles them for the first time.
    warnings.simplefilter("ignore")
    import google.genai.types  # noqa: F401
