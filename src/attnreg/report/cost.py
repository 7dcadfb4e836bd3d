"""What a method costs: the time of a picture over the time of the unmodified one."""

from __future__ import annotations

from collections.abc import Sequence

from attnreg.records import Record
from attnreg.statistics import RESAMPLES, Interval, bootstrap, per_prompt


def extra_time(records: Sequence[Record], baseline: Sequence[Record], resamples: int = RESAMPLES) -> Interval | None:
    """Time over the unmodified picture's of the same prompt and seed, minus one: 0.15 is 15 % more.

    The mean over prompts of the mean over a prompt's seeds: of a method that takes long for few pictures a median would
    hide what it costs. `None` if nothing is paired, or the time is not known (0, as of pictures that others drew).
    """
    without = {(record.prompt, record.seed): record.seconds for record in baseline if record.seconds > 0}
    timed = [record for record in records if record.seconds > 0 and (record.prompt, record.seed) in without]
    if not timed:
        return None
    ratios = [record.seconds / without[record.prompt, record.seed] - 1 for record in timed]
    means = per_prompt([record.prompt for record in timed], ratios)
    return bootstrap(means[:, None], resamples=resamples)[0]
