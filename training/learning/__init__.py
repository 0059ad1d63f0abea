"""What teachers and students learn from, and how: rollouts, labels, the training loop, its checkpoints and logs."""
