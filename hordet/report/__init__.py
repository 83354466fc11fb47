"""An HTML page on one run, or on several side by side: `page.write_report`."""
