"""Images that hordet draws itself, with boxes, masks and label maps; `cache` says where."""
