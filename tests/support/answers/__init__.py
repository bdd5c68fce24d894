"""What upstreams of each dialect answer, field by field and by example.

Each module has the answers of one dialect, as its vendor documents them, and writes them as that vendor
streams them, without the codecs that they are for. `tests.support.answer_table` makes a page of them.
"""

import tests.support.fields  # noqa: F401  imports google.genai without its warnings
