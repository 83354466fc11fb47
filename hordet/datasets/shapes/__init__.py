"""Images that hordet draws itself, with boxes, masks and label maps: `files.write_shapes`."""
