"""Pure functions over arrays of stated shape: intervals, and what they allow to be said."""
