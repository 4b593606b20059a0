"""The answer to a reload that starts no rollout."""

from mlopsd.probe import ReloadRefused
from mlopsd_probes.model.rollout.plan import Action, Keep, Observed


def explain_keep(seen: Observed, action: Action) -> str:
    """Return the sentence for a reload of the version that serves and stays.

    Raises:
        ReloadRefused: nothing is done, and why.
    """
    if (wanted := seen.desired) is None:
        raise ReloadRefused(f"no registry names a version: {seen.complaint_text}")
    if seen.is_busy or not isinstance(action, Keep):
        raise ReloadRefused("a version is on its way; ask again")
    number = wanted.number
    if action.is_blocked:
        raise ReloadRefused(f"version {number} is not taken up: {action.reason}; ?force=true does it anyway")
    if (fallback := seen.held_back) is not None:
        held = f"{fallback.candidate} is a fallback, version {fallback.number}"
        return f"version {number} serves and stays: {held}"
    return f"version {number} serves and is what the registry names"
