"""The commands that look into a finished run, and the trainer's."""
