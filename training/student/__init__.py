"""The student that ships: trained, distilled, judged by its own benchmark, and only then packed."""
