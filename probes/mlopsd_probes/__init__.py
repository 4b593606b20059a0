"""The probes that come with mlopsd; they import mlopsd.probe and nothing else of ours."""
