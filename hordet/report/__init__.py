"""One page on a run, or on several beside one another: `page.write_report`."""
