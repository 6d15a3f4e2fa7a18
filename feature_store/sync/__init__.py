"""Bring features online: what changed, at the pace that the table takes, and the proof that online equals offline."""
