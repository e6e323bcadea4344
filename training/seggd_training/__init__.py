"""Training of segmentation-guided diffusion models: data, mask ablation, the loop, and what it saves. Needs PyTorch."""
