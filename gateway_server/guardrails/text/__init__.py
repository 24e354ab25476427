"""What a text is: an attack on the instructions of a model, or a text that should not be written."""
