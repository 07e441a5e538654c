"""charrnn trains, samples and scores character-level recurrent language models."""

__version__ = "0.1.0"
