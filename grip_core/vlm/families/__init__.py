"""One file a family: how its images become visual tokens, and what is particular about its prompts and positions."""
