"""What happened while a pipeline drew: the account of the edits, and what the picture attended to, step by step."""

from attnreg.trace.seen import Seen as Seen
from attnreg.trace.trace import Sample as Sample
from attnreg.trace.trace import Trace as Trace
