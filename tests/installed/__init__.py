"""The wheel, installed where the source is out of reach."""
