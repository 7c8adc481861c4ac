"""The search policy: which candidate to train next and which running trial to stop, in numpy and scipy only."""
