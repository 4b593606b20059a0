"""The judgement of a version by the evidence that its files are the registered ones."""

import shlex

from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.provenance import DIGEST_TAG, digest_fault
from mlopsd_probes.registry.version import Version


def tag_fault(version: Version, options: ModelOptions) -> str | None:
    """Return a sentence if *version* lacks the tag that ``digest_tag`` requires."""
    tag = options.digest_tag
    if tag is None or version.tagged_digest:
        return None
    command = ["mlopsd", "digest", f"models:/{options.model}/{version.number}", "--tag"]
    return f"it has no tag {tag}; set it with: {shlex.join(command + [tag] * (tag != DIGEST_TAG))}"


def files_fault(kept: CachedVersion, options: ModelOptions) -> str | None:
    """Return a sentence if the files of *kept* are not those that the evidence names."""
    if options.digest_tag is None:
        return None
    if (missing := tag_fault(kept.version, options)) is not None:
        return missing
    return digest_fault(options.digest_tag, kept.version.tagged_digest or "", kept.digest)
