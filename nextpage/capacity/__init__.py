"""How many machines a demand takes: bytes, time, queues, and what they come to. Pure arithmetic, seeded draws."""
