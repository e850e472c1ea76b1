"""From methods to numbers: rows of single answers, tables with intervals, and the words they allow."""
