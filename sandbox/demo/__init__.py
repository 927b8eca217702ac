"""The demo: from unscored leads to scored leads, on a sample host database."""
