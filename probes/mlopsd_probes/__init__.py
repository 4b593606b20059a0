"""The probes that come with mlopsd; of mlopsd they import what any author may."""
