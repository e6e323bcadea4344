"""The paper's tables on real data: how well images follow masks, how real they look, and what they are good for."""
