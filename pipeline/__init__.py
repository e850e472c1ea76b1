"""One script a stage: read my section of params.yaml, call grip_core, write my outputs."""
