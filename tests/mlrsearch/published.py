"""Runs searches with the published MLRsearch controller for a test in another process.

One JSON object a line. The test knows the devices; this side only decides which trial comes next:

    -> ready                        {"ready": true}
    <- a search                     {"goals": [...], "min_load_pps": ..., "max_load_pps": ...}
    -> a trial it wants             {"trial": {"load_pps": ..., "duration_s": ...}}
    <- what came of it              {"intended": ..., "forwarded": ...}
    -> after as many as it takes    {"goals": [{"lower_pps": ..., "upper_pps": ..., ...}]}
    <- the next search, or the end of input
"""

import json
import sys

from MLRsearch import (
    AbstractMeasurer,
    Config,
    MeasurementResult,
    MultipleLossRatioSearch,
    SearchGoal,
)

# Wall-clock seconds after which the published controller gives a search up: never, in a test.
SEARCH_SECONDS_MAX = 1e9


def say(message):
    """Write one line at once: the other side waits for it."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class RemoteMeasurer(AbstractMeasurer):
    """Has every trial made by the other side."""

    def measure(self, intended_duration, intended_load):
        say({"trial": {"load_pps": intended_load, "duration_s": intended_duration}})
        outcome = json.loads(sys.stdin.readline())
        return MeasurementResult(
            intended_duration=intended_duration,
            intended_load=intended_load,
            intended_count=outcome["intended"],
            offered_count=outcome["intended"],
            forwarding_count=outcome["forwarded"],
        )


def goal_of(wanted):
    """A search goal; it must never end a whole search, so that there are bounds to compare."""
    return SearchGoal(
        loss_ratio=wanted["loss_ratio"],
        exceed_ratio=wanted["exceed_ratio"],
        relative_width=wanted["relative_width"],
        initial_trial_duration=wanted["initial_trial_s"],
        final_trial_duration=wanted["final_trial_s"],
        duration_sum=wanted["duration_sum_s"],
        preceding_targets=wanted["preceding_targets"],
        expansion_coefficient=wanted["expansion"],
        fail_fast=False,
    )


def load_of(bound):
    """The load of a bound in datagrams a second, or None where there is none."""
    return None if bound is None else float(bound)


def run(search):
    """Run one search to its end; the bounds of its goals, in their order."""
    config = Config()
    # Each limit is checked against the other's current value, so the default must go first.
    config.max_load = max(search["max_load_pps"], config.min_load * 2)
    config.min_load = search["min_load_pps"]
    config.max_load = search["max_load_pps"]
    config.goals = [goal_of(wanted) for wanted in search["goals"]]
    config.search_duration_max = SEARCH_SECONDS_MAX
    config.warmup_duration = None
    results = MultipleLossRatioSearch(config=config).search(
        measurer=RemoteMeasurer(), debug=lambda text: None
    )
    return [
        {
            "lower_pps": load_of(results[goal].relevant_lower_bound),
            "upper_pps": load_of(results[goal].relevant_upper_bound),
            "throughput_pps": load_of(results[goal].conditional_throughput),
        }
        for goal in config.goals
    ]


def main():
    """Answer searches until the input ends."""
    say({"ready": True})
    for line in sys.stdin:
        say({"goals": run(json.loads(line))})


main()
