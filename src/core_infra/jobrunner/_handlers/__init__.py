"""What is done about signals."""
