"""``mlopsd bundle``: one archive for a ticket, without secrets and without lines that models printed."""
