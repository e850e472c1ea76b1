"""Training of the scorer: supervised warm-up, then GRPO on TRL. The only place that imports trl."""
