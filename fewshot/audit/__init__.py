"""The accuracy of a whole archive from answers to a random sample of it, with intervals that hold at every look.

`glide-py` 0.11 (Apache-2.0, well kept) has stratified PPI++, but needs Python 3.12 and a newer SciPy than we require,
and its confidence sequences are asymptotic, which promises nothing for an audit of 60 images. What is needed beside it,
sequences by betting without replacement, is most of the work; the rest is some hundred lines of NumPy. Both are
compared with simulations, in `tests/fewshot/audit` and by `python -m tests.bench audit`.
"""

from fewshot.audit.draw import Draw, DrawnRow, Sampler
from fewshot.audit.error_thresholds import ErrorLimit, answers_needed, error_limit
from fewshot.audit.estimates import Estimate
from fewshot.audit.findings import NO_ANSWER, Answer, Answered, ClassFindings, Findings, Share, find
from fewshot.audit.guesses import Strata
from fewshot.audit.stratification import StratumRule

__all__ = [
    "NO_ANSWER",
    "Answer",
    "Answered",
    "ClassFindings",
    "Draw",
    "DrawnRow",
    "ErrorLimit",
    "Estimate",
    "Findings",
    "Sampler",
    "Share",
    "Strata",
    "StratumRule",
    "answers_needed",
    "error_limit",
    "find",
]
