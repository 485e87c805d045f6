"""Decide whether a call to Ecwid may be made now."""
