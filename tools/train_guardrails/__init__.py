"""Trains the text classifiers of the guardrails and measures them on sources that they have not seen."""
