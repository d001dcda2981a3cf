"""Videos in: folders and lists of files, as clips in a resumable order, as pixels or as cached latents.

decode       frames of a file            transforms   frame rate, size, range
cut          which clips a video gives   sources      clips of files; folder, listing
report       what was skipped and why    order        which clips stand in which batch
loader       batches, prepared ahead     latents      a source encoded once
"""
