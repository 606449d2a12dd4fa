//! What is hidden from whom, under what assumptions, and how hard breaking it is.
