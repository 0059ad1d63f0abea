"""The ablation study: what each part of a student's training contributes, by changing one part at a time."""
