"""Every field of every caller's request, as smallest valid samples: one module for each dialect."""

import warnings

with warnings.catch_warnings():  # the SDK's generated texts hold escapes that Python warns of
    warnings.simplefilter("ignore")
    import google.genai.types  # noqa: F401
