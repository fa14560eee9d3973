"""What Hypothesis chooses from."""

from __future__ import annotations

from hypothesis import strategies as st

from wsgi_session import never, on_success, until_close

commit_rules = st.sampled_from([until_close, on_success, never])
"""How a middleware settles."""

steps = st.sampled_from(["read", "add", "commit", "remove", "release", "inner", "block", "fail", "end"])
"""What an application does before a chunk."""
