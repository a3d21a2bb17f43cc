"""What is preferred: rewards, policy and preference objectives. Empty until the align step joins the pipeline."""
