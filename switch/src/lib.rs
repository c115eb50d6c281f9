//! The switch engine as a library, and the podswitch binary.
