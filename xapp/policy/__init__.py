"""From KPI report to MCS: the policy bundle, its ONNX session, OLLA, the per-UE memory and the guard."""
