"""From a trained denoiser to video files."""
