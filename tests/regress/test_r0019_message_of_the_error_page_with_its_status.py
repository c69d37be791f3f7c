"""`.Message` in an operator's error page began with "404 Not Found: ", which a page that shows `.Status` said twice.

gorouter writes that only before the plain text. The tests of the page had been written after what it did.
"""

from gorouter_py.control.error_page import compile_page
from tests.support.plane import MakeRouter


def test_message_alone(router: MakeRouter) -> None:
    front = router(error_page=compile_page("{{.Status}}|{{.Message}}"))
    assert front.get(host="a.test").body == b"404|Requested route (&#39;a.test&#39;) does not exist."
