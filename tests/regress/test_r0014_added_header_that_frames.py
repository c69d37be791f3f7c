"""A header that the operator adds to answers could be a second Content-Length."""

import pytest

from gorouter_py import _fastpath


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Trailer", "Upgrade"])
def test_framing_cannot_be_added(name: str) -> None:
    with pytest.raises(ValueError, match=f"add_response_headers: {name} belongs to the message's framing"):
        _fastpath.DataPlane({"add_response_headers": [(name, "9")]})
