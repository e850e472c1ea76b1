"""The selection policy: scorer, distributions over selections, budget schedules."""
