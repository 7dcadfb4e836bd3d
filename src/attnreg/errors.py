"""The one error of the library, in a file that loads nothing: reports are made where there is no torch."""

from attnreg.shown import cut, visible

LONGEST = 2_000
"""Letters of an error: it says first what was expected and last what to do; what came stands between."""


class AttnregError(ValueError):
    """Something the caller can put right. The message is one line: what was expected, what came, what to do.

    What came may be anything: the message is cut where it is too long, and holds no code that a terminal would obey.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(cut(visible(message), LONGEST))
