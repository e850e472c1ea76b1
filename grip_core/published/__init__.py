"""Numbers that papers print, kept apart from all that is measured here."""
