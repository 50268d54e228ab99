"""Archives: written so that equal contents give equal bytes, and read without trusting them."""
