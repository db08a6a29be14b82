"""Simulated projects: what the policies of promotion decide, and how soon."""

from __future__ import annotations

from tests.bench.result import Gate, Result
from tests.fewshot.promotion.projects import not_worse, simulate, superior
from tests.ray_jobs.retraining.nightly_promotions import promote_every_night

EQUAL, WORSE, BETTER = "equal", "1 point worse", "2 points better"


def run(images: int, repeat: int) -> Result:
    """Simulate projects of 100 nights with 10 % disagreement.

    Args:
        images: number of projects, for each row.
        repeat: not used.
    """
    rows: list[dict[str, str | float]] = []
    gates = []
    for policy, decide, gain, labels in (
        ("superior", superior, 0.0, 20),
        ("superior", superior, -0.01, 20),
        ("superior", superior, 0.01, 20),
        ("superior", superior, 0.02, 20),
        ("superior", superior, 0.02, 100),
        ("not-worse, 2 points", not_worse, 0.0, 20),
        ("not-worse, 2 points", not_worse, 0.01, 20),
        ("not-worse, 2 points", not_worse, -0.02, 20),
        ("not-worse, 2 points", not_worse, -0.03, 20),
        ("watchful, after promotion", superior, -0.03, 100),
        ("watchful, after promotion", superior, 0.0, 100),
        ("watchful, after promotion", superior, 0.01, 100),
    ):
        found = simulate(decide, gain=gain, labels=labels, projects=images)
        rows.append(
            {
                "policy": policy,
                "gain, points": f"{100 * gain:+.0f}",
                "labels a night": labels,
                "promoted or kept %": 100 * (1 - found.rejected if "watchful" in policy else found.promoted),
                "rejected %": 100 * found.rejected,
                "median night": _night(found.rejection_night if "watchful" in policy else found.promotion_night),
            }
        )
        match policy, gain, labels:
            case "superior", 0.0, _:
                gates.append(Gate.at_most("an equal candidate is promoted, %", 100 * found.promoted, 5))
            case "superior", -0.01, _:
                gates.append(Gate.at_most("one that is a point worse is promoted, %", 100 * found.promoted, 1))
            case "superior", 0.02, 100:
                gates.append(Gate.at_most("night of one that is two points better", found.promotion_night, 20))
            case "watchful, after promotion", -0.03, _:
                gates.append(Gate.at_most("night on which a worse one goes", found.rejection_night, 15))
            case "watchful, after promotion", 0.01, _:
                gates.append(Gate.at_least("a better one stays, %", 100 * (1 - found.rejected), 95))
            case _:
                pass
    for gain, labels in ((-0.03, 100), (-0.03, 20), (0.0, 100), (0.0, 20)):
        taken = promote_every_night(gain=gain, labels=labels, projects=max(2, images // 10))
        rows.append(
            {
                "policy": "watchful, promoted every night",
                "gain, points": f"{100 * gain:+.0f}",
                "labels a night": labels,
                "promoted or kept %": 100 * (1 - taken.share),
                "rejected %": 100 * taken.share,
                "median night": _night(taken.night),
            }
        )
        if (gain, labels) == (-0.03, 100):
            gates.append(Gate.at_most("night on which a chain of worse ones goes", taken.night, 15))
    return Result("promotion", f"{images} simulated projects of 100 nights, disagreement 10 %", rows, gates)


def _night(night: float) -> str:
    return "later" if night > 100 else f"{night:.0f}"
