"""From a list file to a batch: lists, readers, clips and views, augmentation, loader."""
