"""The paper's claims as tests: claims.yaml states them, rows of answers decide them, nothing is judged by hand."""
