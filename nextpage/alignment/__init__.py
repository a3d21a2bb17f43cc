"""What is preferred: rewards, answers drawn from the policy, and the objectives that learn from them."""
