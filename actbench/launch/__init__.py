"""Where packs train: handed out, split, isolated; what a slot does with one."""
