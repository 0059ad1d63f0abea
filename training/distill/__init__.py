"""Policy distillation: large teachers into one compact student (arXiv 2511.06563)."""
