"""Experiments with traffic: traces, open-loop replay, scores, benches (see README.md)."""
