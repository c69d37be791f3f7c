"""What goes wrong by a client's doing or the machine's: the text is the reply."""


class WardenError(Exception):
    """Answers the request with an ErrorResponse of this text; the connection stays open."""
