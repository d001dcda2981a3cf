"""What a video is asked to show: one file a condition."""
