"""Validation: what must hold of a view's days before they go online, what is measured of them, and what was found."""
