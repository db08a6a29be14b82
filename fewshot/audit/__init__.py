"""The accuracy of a whole archive from answers to a random sample of it, with intervals that hold at every look.

`glide-py` (Apache-2.0, well kept) has stratified PPI++, but needs Python 3.12 and a newer SciPy than we require, and its
confidence sequences are asymptotic: of an audit of 60 images, nothing is known of their coverage. `ppi-python` has no
strata and no sequences, `confseq` no sampling without replacement of an archive whose scores are known. What is needed
is some hundred lines of NumPy, which `tests/fewshot/audit` and `python -m tests.bench audit` compare with simulations.
"""

from fewshot.audit.draw import Draw, DrawnRow, Sampler
from fewshot.audit.estimates import Estimate
from fewshot.audit.findings import NO_ANSWER, Answer, Answered, ClassFindings, Findings, Share, find
from fewshot.audit.guesses import Strata
from fewshot.audit.limits import ErrorLimit, answers_needed, error_limit
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
