"""What happened while a picture was drawn, in words: only what the method measured, never what the picture shows."""

from __future__ import annotations

from attnreg.trace import Sample, Trace
from attnreg.types import StartRecord, given_up_text


def account(sample: Sample) -> str:
    """What acted on a picture and what came of it, in one line."""
    trace = sample.trace
    if not trace.regulated_steps:
        return "no step was regulated"
    told = [*map(str, trace.probes), *(_of_start(one) for one in trace.starts)]
    if trace.records:
        shares = (
            f"{name} {before:.3f} -> {after:.3f}"
            for image in trace.attention()
            for name, (before, after) in image.items()
        )
        told.append(f"mean attention {', '.join(shares)}")
    if updates := [one for one in trace.updates if one.passes]:
        losses = [one.loss_before for one in updates if one.loss_before is not None]
        moved = f"latent moved in {len(updates)} steps, {sum(one.passes for one in updates)} passes with a gradient"
        told.append(f"{moved}, loss {losses[0]:.3f} -> {losses[-1]:.3f}" if losses else moved)
    return "; ".join(told) or f"regulated in {trace.regulated_steps} of {trace.steps} steps"


def marks(sample: Sample) -> tuple[str, str]:
    """What a sheet says below the unmodified picture and below this one, where its initial noise was in question."""
    if not sample.trace.starts:
        return "", ""
    (record,) = sample.trace.starts
    if len(record.scores) == 1 and not record.doubted:
        return "", "left as it is" if record.spared else ""
    done = "begun from another noise" if record.chosen else "no better noise found"
    return f"{_named(record)} not clearly read", done


def acted(trace: Trace) -> str:
    """The method that acted where that was left to the run; "" where it was named by the caller."""
    return ", ".join(dict.fromkeys(one.method for one in trace.decisions))


def _of_start(record: StartRecord) -> str:
    tried, given = len(record.scores), record.scores[0]
    if tried == 1 and not record.doubted:
        read = "the model reads every target in what this seed leads to; " if record.spared else ""
        return f"{read}its own noise is kept (score {given:.2f})"
    doubted = f"the model does not clearly read {_named(record)} in what this seed leads to"
    if record.chosen:
        return (
            f"{doubted}; begun from another noise (number {record.chosen + 1} of {tried} tried, "
            f"score {given:.2f} -> {record.scores[record.chosen]:.2f}{_of_given_up(record)})"
        )
    others = f", nor more clearly in {tried - 1} others" if tried > 1 else ", and no other noise is tried"
    return f"{doubted}{others}; its own noise is kept (score {given:.2f}{_of_given_up(record)})"


def _of_given_up(record: StartRecord) -> str:
    return f"; {len(record.given_up)} {given_up_text(record.given_up_after)}" if record.given_up else ""


def _named(record: StartRecord) -> str:
    return f'"{record.doubted}"' if record.doubted else "some target"
