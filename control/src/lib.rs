//! The words said to a switch and a blocking client that says them.
