"""What maps a packed sequence to hidden states."""
