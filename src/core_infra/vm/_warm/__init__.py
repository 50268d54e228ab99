"""Templates that stay warm between runs, in a helper process of this user."""
