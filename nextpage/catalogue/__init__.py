"""What an item is: its text, the company it keeps, and the vector made of both."""
