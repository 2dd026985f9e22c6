"""Series of other programs, judged beside those that the program makes."""
