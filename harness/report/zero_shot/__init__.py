"""The board of a zero-shot suite: counted from its rows, as tables, a page, and other formats."""
