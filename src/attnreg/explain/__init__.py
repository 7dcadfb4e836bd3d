"""What the model attended to while it drew, without a method and with it: as arrays, a figure and JSON."""

from attnreg.explain.explanation import Explanation as Explanation
from attnreg.explain.explanation import explain as explain
