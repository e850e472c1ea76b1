"""Frozen vision-language models behind one interface: encode, keep, answer."""
