"""What may go in and out of a model."""
