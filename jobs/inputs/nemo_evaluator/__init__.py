"""Results of NeMo Evaluator."""
