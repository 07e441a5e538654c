"""Who does the work: ours and the peers', each in a process of its own. A room has its ways by name in WAYS."""
