"""What a run needs around a method: processes, checkpoints, random states, tracking."""
